"""RPC: what every transport says on the wire beside the messages, and when it is repeated."""

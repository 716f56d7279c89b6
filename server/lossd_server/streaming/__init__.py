"""The Stream RPC: evaluations in blocks, and many in a message."""

"""Every loss against the oracle, through every stage of a request but the sockets."""

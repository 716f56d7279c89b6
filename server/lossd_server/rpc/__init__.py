"""RPC handlers: what a unary call means, whatever carried it."""

"""Routing: which way a call takes. One message, blocks of a stream, shared memory."""

"""Which way a call takes: one message, blocks of a stream, shared memory."""

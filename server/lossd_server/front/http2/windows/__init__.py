"""Windows in which an HTTP/2 connection receives, and what they let in unasked."""

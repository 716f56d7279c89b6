"""Header lists of HTTP/2 (RFC 7541 and RFC 9113, 8): blocks put together, decoded, and what they say of a call."""

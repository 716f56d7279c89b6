"""Streams: what is sent, what came back, what is sent again."""

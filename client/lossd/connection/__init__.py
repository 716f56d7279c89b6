"""Connections to a server: channels, and which of several a call takes."""

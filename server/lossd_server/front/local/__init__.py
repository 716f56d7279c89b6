"""Calls of the server's own HTTP port: a Unix socket for each server process, a connection for each call."""

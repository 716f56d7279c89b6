"""Concurrency: what the two clients do differently in Python itself. Waiting, background work, who shares a channel."""

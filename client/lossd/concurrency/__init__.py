"""What the two clients do differently in Python itself: waiting, background work, and who may share a channel."""

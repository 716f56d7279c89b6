"""Admission control: which bytes are held, and who waits for room."""

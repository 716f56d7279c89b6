"""The host's part of a loss: checks, denominators, ordered sums, and the bytes of the wire."""

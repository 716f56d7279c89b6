"""Gather kernels: they pick one element of a row."""

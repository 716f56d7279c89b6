"""Kernels that pick one element of a row."""

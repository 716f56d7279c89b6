"""Kernels of the elementwise losses: every element is a loss of its own."""

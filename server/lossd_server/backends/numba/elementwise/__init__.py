"""Elementwise kernels: every element is a loss of its own."""

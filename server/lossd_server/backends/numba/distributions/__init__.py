"""Kernels of losses between two distributions, and of the entropy of one."""

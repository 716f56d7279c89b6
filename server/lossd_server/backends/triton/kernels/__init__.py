"""Triton kernels, one file a family and way of reading its rows."""

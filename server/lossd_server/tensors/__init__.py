"""Tensors: dtypes, arrays, and the fields of a request."""

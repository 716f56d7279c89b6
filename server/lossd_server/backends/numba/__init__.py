"""The CPU backend: kernels in numba, over ragged batches, on threads of our own."""

from lossd_server.backends.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]

"""The CPU backend: the two kernel families in numba, over ragged tables, on threads of our own."""

from lossd_server.backends.numba.backend import NumbaBackend

__all__ = ["NumbaBackend"]

"""The version of this distribution, client and server."""

__version__ = "0.1.0"

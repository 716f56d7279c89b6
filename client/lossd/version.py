"""The version of this distribution, client and server."""

__version__ = "0.2.0"

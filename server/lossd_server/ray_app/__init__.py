"""Ray application: lossd's servers as replicas of Ray Serve. `serve run lossd_server.ray_app:app`; needs lossd[ray]."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`app`: what needs no Ray can be imported without it."""
    if name == "app":
        from lossd_server.ray_app.application import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Core's arguments, which core itself would never complain about."""

from __future__ import annotations

from pathlib import Path

import grpc

from lossd_server.config.settings import Settings
from lossd_server.front.grpcio.channel_options import arguments


def test_names() -> None:
    """Every argument's name is one that core has."""
    library = next(Path(grpc.__file__).parent.glob("_cython/cygrpc*.so")).read_bytes()

    assert [name for name, _ in arguments(Settings()) if name.encode() + b"\0" not in library] == []


def test_values() -> None:
    """Every value is a C int: core ignores numbers given as strings."""
    values = [value for _, value in arguments(Settings(max_message_bytes=2**31 - 2**20, max_inflight_bytes=2**31))]

    assert all(type(value) is int and -1 <= value < 2**31 for value in values)

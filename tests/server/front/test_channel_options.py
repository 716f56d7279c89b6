"""Core's arguments, which core itself would never complain about."""

from __future__ import annotations

from pathlib import Path

import grpc

from lossd_server.config.settings import Settings
from lossd_server.front.grpcio.channel_options import arguments


def test_names() -> None:
    """Every argument's name is one that core has."""
    library = next(Path(grpc.__file__).parent.glob("_cython/cygrpc*.so")).read_bytes()

    assert [
        name for name, _ in arguments(Settings(max_connection_age_s=1.0)) if name.encode() + b"\0" not in library
    ] == []


def test_values() -> None:
    """Every value is a C int: core ignores numbers given as strings."""
    values = [value for _, value in arguments(Settings(max_message_bytes=2**31 - 2**20, max_inflight_bytes=2**31))]

    assert all(type(value) is int and -1 <= value < 2**31 for value in values)


def test_ends_of_connections() -> None:
    """Idle ones end, old ones where that is set; calls under way are given no grace, which in core is all the time."""
    given = [dict(arguments(Settings(max_connection_age_s=age_s, max_connection_idle_s=1e9))) for age_s in (0.0, 1.5)]

    assert [one["grpc.max_connection_idle_ms"] for one in given] == [2**31 - 1] * 2
    assert [one.get("grpc.max_connection_age_ms") for one in given] == [None, 1500]
    assert not any("grpc.max_connection_age_grace_ms" in one for one in given)

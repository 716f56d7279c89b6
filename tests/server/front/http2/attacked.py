"""Connections under attack, without a socket."""

from __future__ import annotations

from collections.abc import Iterator

from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import wire

MANY = 200_000  # frames of a flood
LIMITS = Http2Limits()
OPEN = wire.headers(1, wire.request(), wire.END_HEADERS)


def ended(connection: Http2Connection) -> str:
    """The code of its GOAWAY, "" where it goes on."""
    for one in wire.parse(b"".join(connection.outgoing.take())):
        if one.kind == wire.GOAWAY:
            return wire.CODES[int.from_bytes(one.payload[4:8], "big")]
    return ""


def opened(*parts: bytes) -> Http2Connection:
    connection = Http2Connection(LIMITS, {})
    connection.receive(wire.HANDSHAKE + b"".join(parts), 0.0)
    connection.outgoing.take()
    return connection


def numbers() -> Iterator[int]:
    return iter(range(1, 1 << 31, 2))

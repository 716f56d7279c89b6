"""Load report: what every call's end tells of how busy its server is, so that clients can balance.

It is an OrcaLoadReport (xds.data.orca.v3) in the trailer that gRPC's weighted_round_robin reads: two doubles, so it is
written by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

# Whoever is refused with it, for it is not known who calls, hears nothing of the server.
STRANGER = 16
KEY = "endpoint-load-metrics-bin"
# Their tags: field number and wire type.
_REQUESTS_A_SECOND = (6 << 3 | 1).to_bytes(1)
_APPLICATION_UTILIZATION = (9 << 3 | 1).to_bytes(1)


def encoded(utilization: float, requests_a_second: float) -> bytes:
    return (
        _REQUESTS_A_SECOND + struct.pack("<d", requests_a_second)
        + _APPLICATION_UTILIZATION + struct.pack("<d", utilization)
    )  # fmt: skip


class LoadReport:
    """Of one server, the same until it is told anew. raw: the trailer's value; b"" before there is any."""

    def __init__(self) -> None:
        self.raw = b""
        self._followers: list[Callable[[bytes], object]] = []

    def follow(self, follower: Callable[[bytes], object]) -> None:
        """Has `follower` called with each new value, and with the present one now."""
        self._followers.append(follower)
        follower(self.raw)

    def tell(self, raw: bytes) -> None:
        self.raw = raw
        for follower in self._followers:
            follower(raw)

    def trailers(self, code: int = 0) -> tuple[tuple[str, bytes], ...]:
        """As metadata of a call that ends with gRPC's `code`."""
        return ((KEY, self.raw),) if self.raw and code != STRANGER else ()

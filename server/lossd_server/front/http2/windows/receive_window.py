"""Receive window of a connection (RFC 9113, 6.9): what the peer may send on all of its streams together."""

from __future__ import annotations

from lossd_server.front.http2 import frames
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode


class ReceiveWindow:
    """As wide as what is expected of messages that somebody waits for, and `base` beyond it for everything else."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._left = frames.FIRST_WINDOW_BYTES
        self._expected = 0

    def take(self, counted: int) -> None:
        """Bytes have come that flow control counts. Raises ConnectionFault."""
        self._left -= counted
        if self._left < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is overrun")

    def expect(self, change: int) -> None:
        """So many bytes more are expected, or fewer."""
        self._expected += change

    def grant(self) -> int:
        """The increment that the peer is to be told now, 0 for none."""
        increment = min(self._expected + self._base, frames.MOST_WINDOW_BYTES) - self._left
        if 2 * increment < self._base:
            return 0
        self._left += increment
        return increment

"""Rate of frames that cost us more than their sender: a bucket that fills with each and drains with time."""

from __future__ import annotations

from lossd_server.front.http2.frames import ConnectionFault, ErrorCode


class Rate:
    """At most `burst` at once and `each_second` in the long run; nothing is counted for a connection's whole life.

    what: in the reason for which a connection ends that is over it.
    """

    __slots__ = ("_at_s", "_burst", "_each_second", "_level", "_what")

    def __init__(self, what: str, bound: tuple[float, float]) -> None:
        self._what = what
        self._burst, self._each_second = bound
        self._level = 0.0
        self._at_s = 0.0

    def count(self, now_s: float) -> None:
        """One more at `now_s`. Raises ConnectionFault where it is one too many."""
        self._level = max(0.0, self._level - (now_s - self._at_s) * self._each_second) + 1.0
        self._at_s = now_s
        if self._level > self._burst:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._what}")

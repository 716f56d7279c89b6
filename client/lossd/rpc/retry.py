"""Retry policy of one call: when it is repeated. Pure, its clock and random numbers passed in.

Losses are pure, so repeating is always safe. UNAVAILABLE is repeated, and RESOURCE_EXHAUSTED where the server says
when to come back, until the deadline.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf

from lossd.errors import CLIENT_CLOSED, Error, InvalidArgument, Overloaded, Unavailable, shown_value

# The first wait, its growth and its end. 2 s: a server that restarts takes about that long.
FIRST_S = 0.05
GROWTH = 2.0
LONGEST_S = 2.0
# After so many growths a wait has its end for certain, and a power need not be taken that no float holds.
MOST_GROWTHS = 64
# Each wait is drawn from ±20 %, so that clients that failed together do not come back together.
JITTER = 0.2


def deadline_s(timeout: float) -> float:
    """`timeout` as a number of seconds: finite and > 0, or InvalidArgument."""
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < inf:
        raise InvalidArgument(
            f"timeout must be a positive, finite number of seconds, not {shown_value(timeout)}",
            field="timeout",
            reason="OPTION_OUT_OF_RANGE",
            metadata={"value": shown_value(timeout)},
        )
    return seconds


class Retry:
    """The attempts of one call that may take `timeout_s` seconds from now on; from its last progress, not `bounded`."""

    def __init__(
        self,
        timeout_s: float,
        *,
        bounded: bool = True,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._bounded = bounded
        self._clock = clock
        self._uniform = uniform
        self._timeout_s = timeout_s
        self._end_s = clock() + timeout_s
        self._waits = 0

    def remaining_s(self) -> float:
        """Seconds that the next attempt has; never negative."""
        return max(0.0, self._end_s - self._clock())

    def extend(self) -> None:
        """New ground was covered: the time for repeating begins anew, unless the whole call is bounded."""
        if not self._bounded:
            self._end_s = self._clock() + self._timeout_s
            self._waits = 0

    def wait_s(self, error: Error) -> float:
        """Seconds to wait before the next attempt; raises `error` where there is none."""
        wait_s = self.wait_after(error, self._waits)
        self._waits += 1
        return wait_s

    def wait_after(self, error: Error, failures: int) -> float:
        """As `wait_s`, of one that failed `failures` times before and waits beside others in the same time."""
        if not isinstance(error, Unavailable | Overloaded) or error.reason == CLIENT_CLOSED:
            raise error
        longer_s = min(FIRST_S * GROWTH ** min(failures, MOST_GROWTHS), LONGEST_S)
        wait_s = max(longer_s, error.retry_after_s or 0.0) * self._uniform(1 - JITTER, 1 + JITTER)
        if wait_s >= self.remaining_s():
            raise error
        return wait_s

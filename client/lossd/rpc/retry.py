"""Retry policy of one call: when it is repeated. Pure, its clock and random numbers passed in.

Losses are pure, so repeating is always safe. UNAVAILABLE is repeated, and RESOURCE_EXHAUSTED where the server says
when to come back, until the deadline.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from threading import TIMEOUT_MAX
from typing import Any

import numpy as np

from lossd.errors import (
    CLIENT_CLOSED,
    EMBEDDED_ENDED,
    DeadlineExceeded,
    Error,
    InvalidArgument,
    Overloaded,
    Unavailable,
    shown_value,
)
from lossd.rpc.protocol import Lifetime

# The first wait, its growth and its end. 2 s: a server that restarts takes about that long.
FIRST_S = 0.05
GROWTH = 2.0
LONGEST_S = 2.0
# After so many growths a wait has its end for certain, and a power need not be taken that no float holds.
MOST_GROWTHS = 64
# Each wait is drawn from ±20 %, so that clients that failed together do not come back together.
JITTER = 0.2


# A longer timeout is this one, 31 years where the system's clocks can wait for so long: gRPC's and Python's sums of it
# with the time of day overflow somewhere beyond. Half of what Python takes, for a sum is rounded.
LONGEST_TIMEOUT_S = min(1e9, TIMEOUT_MAX / 2)


def deadline_s(timeout: object, name: str = "timeout") -> float:
    """`timeout` as a number of seconds: finite and > 0, of any type, or InvalidArgument. name: the option's."""
    number: Any = timeout
    try:
        if not isinstance(number, str | bool | np.bool_) and np.ndim(number) == 0 and 0 < number < inf:
            return float(min(number, LONGEST_TIMEOUT_S))
    except (TypeError, ValueError, ArithmeticError):  # no number, or a decimal that is none
        pass
    raise InvalidArgument(
        f"{name} must be a positive, finite number of seconds, not {shown_value(timeout)}",
        field=name,
        reason="OPTION_OUT_OF_RANGE",
        metadata={"value": shown_value(timeout)},
    )


class Retry:
    """The attempts of one call that may take `timeout_s` seconds from now on; from its last progress, not `bounded`.

    lifetime: the client's. Until a server has answered it, its connect_timeout_s bounds the attempts too.
    """

    def __init__(
        self,
        timeout_s: float,
        lifetime: Lifetime | None = None,
        *,
        bounded: bool = True,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        now_s = clock()
        self._bounded = bounded
        self._clock = clock
        self._uniform = uniform
        self._timeout_s = timeout_s
        self._end_s = now_s + timeout_s
        self._lifetime = lifetime or Lifetime()
        self._connect_end_s = now_s + self._lifetime.connect_timeout_s
        self._connecting = False
        self._waits = 0

    def remaining_s(self) -> float:
        """Seconds that the next attempt has; never negative."""
        self._connecting = not self._lifetime.reached and self._connect_end_s < self._end_s
        left_s = (self._connect_end_s if self._connecting else self._end_s) - self._clock()
        return left_s if left_s > 0.0 else 0.0

    def extend(self) -> None:
        """New ground was covered: the time for repeating begins anew, unless the whole call is bounded."""
        if not self._bounded:
            self._end_s = self._clock() + self._timeout_s
            self._waits = 0

    def wait_s(self, error: Error) -> float:
        """Seconds to wait before the next attempt; raises `error` where there is none."""
        if self._connecting and self._lifetime.reached and isinstance(error, DeadlineExceeded):
            # The attempt had the time for connecting only, and the server turned out to be there.
            return 0.0
        wait_s = self.wait_after(error, self._waits)
        self._waits += 1
        return wait_s

    def wait_after(self, error: Error, failures: int) -> float:
        """As `wait_s`, of one that failed `failures` times before and waits beside others in the same time."""
        if not isinstance(error, Unavailable | Overloaded) or error.reason in (CLIENT_CLOSED, EMBEDDED_ENDED):
            raise error
        if isinstance(error, Unavailable) and not self._lifetime.repeats:
            raise error
        longer_s = min(FIRST_S * GROWTH ** min(failures, MOST_GROWTHS), LONGEST_S)
        # What a server that goes away asks for is its own affair: another takes the next attempt.
        elsewhere = self._lifetime.several and isinstance(error, Unavailable)
        asked_s = 0.0 if elsewhere else error.retry_after_s or 0.0
        wait_s = max(longer_s, asked_s) * self._uniform(1 - JITTER, 1 + JITTER)
        if wait_s >= self.remaining_s():
            raise error
        return wait_s

"""Load levels, and when each request of an open loop is due."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Arrivals = Literal["constant", "poisson"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One level. Closed loop: `concurrency` requests in flight at any time. Open loop: `rate` requests a second,
    however slow the answers are.
    """

    concurrency: int = 0
    rate: float = 0.0
    arrivals: Arrivals = "constant"

    @property
    def open(self) -> bool:
        return self.rate > 0

    @property
    def size(self) -> float:
        """The number that grows from level to level: the concurrency, or the rate."""
        return self.rate if self.open else self.concurrency

    @property
    def name(self) -> str:
        return f"{self.rate:,.6g}/s" if self.open else f"{self.concurrency:,}"


def due(load: Load, seed: int) -> Iterator[float]:
    """Seconds from the level's start at which its requests are due: without end, never decreasing.

    poisson: intervals are drawn from the exponential distribution, so that arrivals are independent of each other.
    """
    if load.arrivals == "constant":
        # A product and not a sum of intervals: no error adds up.
        count = 0
        while True:
            yield count / load.rate
            count += 1
    drawn = random.Random(seed)
    at = 0.0
    while True:
        at += drawn.expovariate(load.rate)
        yield at

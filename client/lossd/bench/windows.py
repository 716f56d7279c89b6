"""Stopping rule of a level: decides from windows of time whether it was measured long enough. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lossd.bench.tally import Tally

# Windows that must agree, and how closely: (greatest − least) / mean.
WINDOWS = 3
AGREEMENT = 0.1
# With fewer answers a median means little.
LEAST_ANSWERS = 10


class Verdict(Enum):
    """How a level ended; GOING: it has not."""

    GOING = "going on"
    STEADY = "steady"
    NOT_STEADY = "not steady"
    # Every window is far above the bound of a search, or no answer is right.
    HOPELESS = "given up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """window_s: shortest length of a window. max_s: longest time of a level. p99_s: bound of a search, or infinite."""

    window_s: float = 1.0
    max_s: float = 30.0
    p99_s: float = math.inf

    def full(self, tally: Tally, seconds: float, elapsed_s: float) -> bool:
        """Whether a window is over after `seconds`, `elapsed_s` after the level's start."""
        return elapsed_s >= self.max_s or (seconds >= self.window_s and tally.answers >= LEAST_ANSWERS)

    def judge(self, windows: Sequence[Tally], elapsed_s: float) -> Verdict:
        """The verdict on the windows so far, in order; only the last three count."""
        last = windows[-WINDOWS:]
        if len(last) == WINDOWS:
            if not any(window.right for window in last):
                return Verdict.HOPELESS
            # Twice the bound: a level that is close to the bound gets its whole time.
            if all(window.latency.percentile_s(99) > 2 * self.p99_s for window in last if window.right):
                return Verdict.HOPELESS
            if agree(last):
                return Verdict.STEADY
        return Verdict.NOT_STEADY if elapsed_s >= self.max_s else Verdict.GOING


def agree(windows: Sequence[Tally]) -> bool:
    """Whether throughput and median latency of these windows lie within 10 % of each other."""
    if not all(window.right and window.seconds > 0 for window in windows):
        return False
    # In an open loop relative to what was due, since random arrivals alone make windows differ by more than 10 %.
    throughput = [window.right / (window.due or window.seconds) for window in windows]
    latency = [window.latency.percentile_s(50) for window in windows]
    return relative_spread(throughput) <= AGREEMENT and relative_spread(latency) <= AGREEMENT


def relative_spread(values: Sequence[float]) -> float:
    """(greatest − least) / mean of positive values."""
    return (max(values) - min(values)) / (sum(values) / len(values))

"""Searches for the highest rate that a server sustains: doubling until a level fails, then bisection. Pure."""

from __future__ import annotations

import math

# The result is found to 5 %; two runs on one machine differ by more.
PRECISION = 1.05
LEAST_RATE = 1.0


class Search:
    """rate: the next one to try, per second; None when `best` is the result. best: the highest that passed, or 0.

    A rate fails when it fails twice: one pause of the machine is enough to spoil the p99 of a level.
    """

    def __init__(self, first_rate: float) -> None:
        self.rate: float | None = first_rate
        self.best = 0.0
        self._failed = math.inf
        self._doubted = False

    def tell(self, passed: bool, *, certain: bool = False) -> None:
        """Reports whether the level at `rate` passed. certain: a failure that needs no second try."""
        if self.rate is None:
            raise AssertionError("the search has ended")
        if not passed and not certain and not self._doubted:
            self._doubted = True
            return
        self._doubted = False
        if passed:
            self.best = max(self.best, self.rate)
        else:
            self._failed = min(self._failed, self.rate)
        self.rate = self._next()

    def _next(self) -> float | None:
        if self._failed == math.inf:
            return self.best * 2
        if self.best == 0.0:
            lower = self._failed / 2
            return lower if lower >= LEAST_RATE else None
        # The geometric middle, since the ratio is what counts; three digits are easier to read.
        middle = float(f"{math.sqrt(self.best * self._failed):.3g}")
        done = self._failed <= self.best * PRECISION or not self.best < middle < self._failed
        return None if done else middle

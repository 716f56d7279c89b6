"""Pace: how fast what is in line is worked off, beside what it was thought to cost. Pure."""

from __future__ import annotations

# Of what the last batch showed, this part counts; and no more than so many times of what was known before: one that was
# compiled first, or stopped, says little of the others.
WEIGHT, MOST = 1 / 8, 20.0


class Pace:
    """Seconds for nanoseconds of cost."""

    def __init__(self) -> None:
        self._ratio = 1.0

    def observe(self, cost_ns: float, took_s: float) -> None:
        """A batch of so much cost was done so long after it was taken from the line."""
        if cost_ns > 0:
            self._ratio += WEIGHT * (min(1e9 * took_s / cost_ns, MOST * self._ratio) - self._ratio)

    def seconds(self, cost_ns: float) -> float:
        return 1e-9 * self._ratio * cost_ns

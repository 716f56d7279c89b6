"""Watch over operations under way: which have outlived their bound. Its clock is passed in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

What = TypeVar("What")


@dataclass(slots=True)
class _Watched(Generic[What]):
    what: What
    end_s: float


class Watch(Generic[What]):
    """Counts only time that this process ran in: one that was stopped for ten seconds has not hung for ten seconds.

    period_s: how often `overdue` is asked; of a longer pause this much counts.
    """

    def __init__(self, clock: Callable[[], float], period_s: float) -> None:
        self._clock = clock
        self._period_s = period_s
        self._looked_s = clock()
        self._lived_s = 0.0
        self._under_way: dict[int, _Watched[What]] = {}
        self._lock = threading.Lock()
        self._next = 0

    def begin(self, what: What, bound_s: float) -> int:
        """A handle for `end`."""
        with self._lock:
            self._next += 1
            self._under_way[self._next] = _Watched(what, self._lived_s + self._period_s + bound_s)
            return self._next

    def end(self, handle: int) -> bool:
        """Whether it was still watched: not where it was overdue before it ended."""
        with self._lock:
            return self._under_way.pop(handle, None) is not None

    def overdue(self) -> list[What]:
        """Those whose bound is over, each told once."""
        now = self._clock()
        with self._lock:
            self._lived_s += min(now - self._looked_s, self._period_s)
            self._looked_s = now
            late = [handle for handle, one in self._under_way.items() if one.end_s <= self._lived_s]
            return [self._under_way.pop(handle).what for handle in late]

"""Refused evaluations of a stream: each waits for its own time to be sent again, beside the others. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

from lossd.errors import Error
from lossd.rpc.retry import Retry
from lossd.streaming.evaluation import SmallEvaluation


class Refused:
    """Those that wait, and until when. retry: whether one may be sent again at all. clock: seconds."""

    def __init__(self, retry: Retry, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._clock = clock
        self._waiting: list[tuple[float, int, SmallEvaluation]] = []
        self._order = count()

    def take(self, evaluation: SmallEvaluation) -> bool:
        """Whether an evaluation that ended is to be sent again: then it waits here."""
        if not isinstance(evaluation.outcome, Error) or evaluation.spent:
            return False
        try:
            wait_s = self._retry.wait_after(evaluation.outcome, evaluation.refusals)
        except Error:
            return False
        evaluation.outcome = None
        evaluation.refusals += 1
        heappush(self._waiting, (self._clock() + wait_s, next(self._order), evaluation))
        return True

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def due(self) -> list[SmallEvaluation]:
        """Those whose time has come, which wait no longer."""
        found = []
        while self._waiting and self._waiting[0][0] <= self._clock():
            found.append(heappop(self._waiting)[2])
        return found

    def next_s(self) -> float:
        """Seconds until the next one is due; inf where none waits."""
        return max(0.0, self._waiting[0][0] - self._clock()) if self._waiting else inf

    def clear(self) -> None:
        """All of them are sent again at once, by a new stream."""
        self._waiting.clear()

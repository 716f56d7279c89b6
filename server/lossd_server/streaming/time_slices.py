"""Time slices: work on the event loop that is long is done in pieces, between which everything else has its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

# Hundreds of small evaluations, and no more than the others notice.
SLICE_S = 0.002
# Steps of some µs look at the clock once in so many.
CLOCK_EACH = 16


class TimeSlices:
    """Of one piece of work. clock: seconds."""

    __slots__ = ("_clock", "_end")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._end = clock() + SLICE_S

    def is_over(self) -> bool:
        """Whether it is time to let others have their turn; then the next slice begins with the next question."""
        now = self._clock()
        if now < self._end:
            return False
        self._end = now + SLICE_S
        return True


async def all_of(steps: Iterator[None]) -> None:
    """Takes them, with a turn of the loop after each."""
    for _ in steps:
        await asyncio.sleep(0)


class StepRunner:
    """Takes steps beside what its owner does. ended: called after the last step of several, with what it raised."""

    def __init__(self, ended: Callable[[Exception | None], None]) -> None:
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Whether any are left."""
        return bool(self._tasks)

    def go_on_with(self, steps: Iterator[None]) -> None:
        """Takes the first one now, and those that are left in turns with all else."""
        for _ in steps:
            task = asyncio.create_task(all_of(steps))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            return

    def cancel(self) -> None:
        """Takes no more."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._ended(error if isinstance(error, Exception) else None)

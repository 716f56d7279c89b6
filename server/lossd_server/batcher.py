"""Which jobs run together, and when: pure, no asyncio, no clock of its own.

Small jobs and large ones stand in two lines. A batch is taken from one line, first come first served, up to a budget
of bytes and rows; where both lines have jobs they take turns. So a small job waits for one large batch at most, and a
large one for one batch of small ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from lossd_server.job import Job

Reply = TypeVar("Reply")


class Waiting(Generic[Reply]):
    """A job in line. `deadline` is on the clock of `Batcher.take`; `reply` is whatever the caller answers through."""

    __slots__ = ("bytes", "deadline", "job", "queued_ns", "reply", "rows")

    def __init__(self, job: Job, deadline: float, queued_ns: int, reply: Reply) -> None:
        layout = job.layout
        self.job: Job | None = job
        self.deadline = deadline
        self.queued_ns = queued_ns
        self.reply = reply
        self.bytes = job.work_bytes
        self.rows = layout.elements if job.formula.elementwise else layout.rows

    def abandon(self) -> None:
        """Nobody waits any more: the job's bytes are given back now, its place in line when it comes up."""
        self.job = None


@dataclass(slots=True)
class Batch(Generic[Reply]):
    """What runs together: `jobs[i]` is that of `waiting[i]`. `rows` are elements for the elementwise losses."""

    waiting: list[Waiting[Reply]]
    jobs: list[Job]
    bytes: int
    rows: int


class Batcher(Generic[Reply]):
    """max_bytes, max_rows: a batch's budget; a job beyond it goes alone. small_bytes: the largest small job."""

    def __init__(self, max_bytes: int, max_rows: int, small_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._small_bytes = small_bytes
        self._small: deque[Waiting[Reply]] = deque()
        self._large: deque[Waiting[Reply]] = deque()
        self._turn_of_large = False

    def put(self, waiting: Waiting[Reply]) -> None:
        (self._small if waiting.bytes <= self._small_bytes else self._large).append(waiting)

    def __len__(self) -> int:
        """Jobs in line, abandoned ones included."""
        return len(self._small) + len(self._large)

    def take(self, now: float) -> tuple[Batch[Reply] | None, list[Waiting[Reply]]]:
        """The next batch, None where no job is left in line; and the jobs whose deadline is over."""
        late: list[Waiting[Reply]] = []
        lines = (self._large, self._small) if self._turn_of_large else (self._small, self._large)
        for line in lines:
            batch = self._fill(line, now, self._max_bytes, late)
            if batch is not None:
                self._turn_of_large = line is self._small
                return batch, late
        return None, late

    def take_small(self, now: float, max_bytes: int) -> tuple[Batch[Reply] | None, list[Waiting[Reply]]]:
        """As `take`, of small jobs only, up to `max_bytes`: for a caller that computes beside the worker."""
        late: list[Waiting[Reply]] = []
        return self._fill(self._small, now, max_bytes, late), late

    def _fill(
        self, line: deque[Waiting[Reply]], now: float, max_bytes: int, late: list[Waiting[Reply]]
    ) -> Batch[Reply] | None:
        waiting: list[Waiting[Reply]] = []
        jobs: list[Job] = []
        size = rows = 0
        while line:
            first = line[0]
            if first.job is None:
                line.popleft()
            elif first.deadline <= now:
                late.append(line.popleft())
            elif jobs and (size + first.bytes > max_bytes or rows + first.rows > self._max_rows):
                break
            else:
                waiting.append(line.popleft())
                jobs.append(first.job)
                size += first.bytes
                rows += first.rows
        return Batch(waiting, jobs, size, rows) if jobs else None

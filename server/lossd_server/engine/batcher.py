"""Batcher: which jobs run together, and when. Pure: no asyncio, no clock of its own.

Small jobs and large ones stand in two lines. A batch is taken from one line, first come first served, up to a budget
of bytes, rows and time; where both lines have jobs they take turns. So a small job waits for one large batch at most,
and a large one for one batch of small ones. A huge job runs alone, part by part, and goes back to the end of its line
after each: so a small job waits for one part of it at most, and huge jobs take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from lossd_server.engine.chunked_job import ChunkedJob
from lossd_server.engine.job_cost import ROW_NS
from lossd_server.jobs.conversion_cost import COPIES_BYTES
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.jobs.slicing import items, piece_items
from lossd_server.jobs.stacks import Stack

Reply = TypeVar("Reply")
# (answer, queue_ns, compute_ns, batch_requests, batch_rows) to what the reply takes.
Form = Callable[[Answer, int, int, int, int], Any]


class Waiting(Generic[Reply]):
    """A job in line. `deadline` is on the clock of `Batcher.take`; `reply` is whatever the caller answers through.

    carry: of a job that is a part, what those before it came to; of one that is a stack of `requests`, that. cost_ns:
    how long it will take, once it is in line.
    form: what becomes of its answer; None: the response of its RPC. cut: of a huge job.
    """

    __slots__ = (
        "bytes",
        "carry",
        "cost_ns",
        "cut",
        "deadline",
        "form",
        "job",
        "queued_ns",
        "reply",
        "requests",
        "rows",
    )

    def __init__(
        self,
        job: Job,
        deadline: float,
        queued_ns: int,
        reply: Reply,
        carry: Carry | UnknownCarry | Stack | None = None,
        form: Form | None = None,
        requests: int = 1,
    ) -> None:
        layout = job.layout
        self.requests = requests
        self.carry = carry
        self.form = form
        self.cut: ChunkedJob | None = None
        self.job: Job | None = job
        self.deadline = deadline
        self.queued_ns = queued_ns
        self.reply = reply
        self.bytes = job.work_bytes
        self.cost_ns = 0.0
        self.rows = layout.elements if job.formula.elementwise else layout.rows

    def abandon(self) -> None:
        """Nobody waits any more: the job's bytes are given back now, its place in line when it comes up."""
        self.job = None
        self.cut = None
        self.form = None


@dataclass(slots=True)
class Batch(Generic[Reply]):
    """What runs together: `jobs[i]` is that of `waiting[i]`. `rows` are elements for the elementwise losses.

    requests: as their callers count them, those of a stack one by one.
    """

    waiting: list[Waiting[Reply]]
    jobs: list[Job]
    bytes: int
    rows: int
    requests: int
    cost_ns: float = 0.0

    def one_by_one(self) -> list[Batch[Reply]]:
        """Its jobs, each as a batch."""
        return [
            Batch([waiting], [job], waiting.bytes, waiting.rows, waiting.requests, waiting.cost_ns)
            for waiting, job in zip(self.waiting, self.jobs, strict=True)
        ]


class Batcher(Generic[Reply]):
    """max_bytes, max_rows, max_ns: a batch's budget, beside that of conversion's copies. small_bytes, small_ns: the
    largest small job. piece_bytes: what a job may read and write at once, a huge one in parts, each within the other
    budgets too; never 0. cost: how many nanoseconds a job takes."""

    def __init__(
        self,
        max_bytes: int,
        max_rows: int,
        small_bytes: int,
        piece_bytes: int | None = None,
        *,
        cost: Callable[[Job], float] = lambda job: 0.0,
        small_ns: float = inf,
        max_ns: float = inf,
    ) -> None:
        self._max_bytes = max_bytes
        self._piece_bytes = piece_bytes or max_bytes
        self._max_rows = max_rows
        self._small_bytes = small_bytes
        self._cost = cost
        self._small_ns = small_ns
        self._max_ns = max_ns
        self._small: deque[Waiting[Reply]] = deque()
        self._large: deque[Waiting[Reply]] = deque()
        self._turn_of_large = False

    def put(self, waiting: Waiting[Reply]) -> None:
        job = waiting.job
        if job is not None:
            waiting.cost_ns = cost = self._cost(job)
            if isinstance(waiting.carry, UnknownCarry):
                waiting.cost_ns += ROW_NS * waiting.carry.job.layout.rows
            parts = max(cost / self._max_ns, job.converted_bytes / COPIES_BYTES)
            if (waiting.bytes > self._piece_bytes or parts > 1.0) and not isinstance(waiting.carry, Stack):
                each = piece_items(job, self._piece_bytes, parts)
                if each < items(job):
                    waiting.cut = ChunkedJob(job, waiting.carry, each)
        self.put_back(waiting)

    def put_back(self, waiting: Waiting[Reply]) -> None:
        """The same for a huge job of which parts are left."""
        small = waiting.bytes <= self._small_bytes and waiting.cost_ns <= self._small_ns
        (self._small if small else self._large).append(waiting)

    def __len__(self) -> int:
        """Jobs in line, abandoned ones included."""
        return len(self._small) + len(self._large)

    def take(self, now: float) -> tuple[Batch[Reply] | None, list[Waiting[Reply]]]:
        """The next batch, None where no job is left in line; and the jobs whose deadline is over."""
        late: list[Waiting[Reply]] = []
        lines = (self._large, self._small) if self._turn_of_large else (self._small, self._large)
        for line in lines:
            batch = self._fill(line, now, self._max_ns, late)
            if batch is not None:
                self._turn_of_large = line is self._small
                return batch, late
        return None, late

    def take_small(self, now: float, max_ns: float) -> tuple[Batch[Reply] | None, list[Waiting[Reply]]]:
        """As `take`, of small jobs only, up to `max_ns`: for a caller that computes beside the worker."""
        late: list[Waiting[Reply]] = []
        return self._fill(self._small, now, max_ns, late), late

    def _fill(
        self, line: deque[Waiting[Reply]], now: float, max_ns: float, late: list[Waiting[Reply]]
    ) -> Batch[Reply] | None:
        waiting: list[Waiting[Reply]] = []
        jobs: list[Job] = []
        size = rows = requests = copies = 0
        cost = 0.0
        while line:
            first = line[0]
            if first.job is None:
                line.popleft()
            elif first.deadline <= now:
                late.append(line.popleft())
            elif jobs and (
                first.cut is not None
                or size + first.bytes > self._max_bytes
                or rows + first.rows > self._max_rows
                or cost + first.cost_ns > max_ns
                or copies + first.job.converted_bytes > COPIES_BYTES
            ):
                break
            else:
                waiting.append(line.popleft())
                jobs.append(first.job)
                size += first.bytes
                cost += first.cost_ns
                copies += first.job.converted_bytes
                rows += first.rows
                requests += first.requests
                if first.cut is not None:
                    break
        return Batch(waiting, jobs, size, rows, requests, cost) if jobs else None

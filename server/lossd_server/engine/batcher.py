"""Batcher: which jobs run together, and when. Pure: no asyncio, no clock of its own.

Small jobs and large ones stand in two lines. A batch is taken from one line, up to a budget of bytes, rows and time;
where both lines have jobs they take turns. So a small job waits for one large batch at most, and a large one for one
batch of small ones. A huge job runs alone, part by part, and goes back to the end of its line after each: so a small
job waits for one part of it at most, and huge jobs take turns. Within a line callers take turns by the time that their
jobs need, and so do the connections of each (`FairQueue`): however many jobs of one are in line, another's are next.
Jobs of one connection run in the order in which they came.

What cannot be answered in time is not computed: a job before which there is too much in line for its deadline is
refused when it comes, and one whose turn comes too late is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from lossd_server.admission.fair_queue import FairQueue
from lossd_server.call.identity import Sharer
from lossd_server.engine.chunked_job import ChunkedJob
from lossd_server.engine.job_cost import ROW_NS
from lossd_server.engine.pace import Pace
from lossd_server.engine.uncomputed import line_too_long
from lossd_server.jobs.conversion_cost import COPIES_BYTES
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.jobs.slicing import items, piece_items
from lossd_server.jobs.stacks import Stack

Reply = TypeVar("Reply")
# Of a job beside its computing: that many small ones are not for nothing.
JOB_NS = 10_000.0
# Of the time that a job has, the line before it may take this part. The rest is for what was thought wrong, for its
# own computing and for the answer's way: without it, all that a full server computes would come just too late.
LINE_PART = 0.75
# Of a message's byte at least, whatever its loss.
LEAST_BYTE_NS = 0.1
# (answer, queue_ns, compute_ns, batch_requests, batch_rows) to what the reply takes.
Form = Callable[[Answer, int, int, int, int], Any]


NOBODY = Sharer()


class Waiting(Generic[Reply]):
    """A job in line. `deadline` is on the clock of `Batcher.take`; `reply` is whatever the caller answers through.

    carry: of a job that is a part, what those before it came to; of one that is a stack of `requests`, that. cost_ns:
    how long it will take, once it is in line.
    form: what becomes of its answer; None: the response of its RPC. cut: of a huge job. sharer: whose it is.
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
        "sharer",
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
        sharer: Sharer = NOBODY,
    ) -> None:
        layout = job.layout
        self.sharer = sharer
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

    requests: as their callers count them, those of a stack one by one. taken: from the line, on the clock of
    `Batcher.take`. start_ns, took_ns: once it was computed, when that began on time.monotonic_ns, and how long it took.
    """

    waiting: list[Waiting[Reply]]
    jobs: list[Job]
    bytes: int
    rows: int
    requests: int
    cost_ns: float = 0.0
    taken: float = 0.0
    start_ns: int = 0
    took_ns: int = 0

    def one_by_one(self) -> list[Batch[Reply]]:
        """Its jobs, each as a batch."""
        return [
            Batch([waiting], [job], waiting.bytes, waiting.rows, waiting.requests, waiting.cost_ns, self.taken)
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
        self._small: FairQueue[Waiting[Reply]] = FairQueue()
        self._large: FairQueue[Waiting[Reply]] = FairQueue()
        self._turn_of_large = False
        self._pace = Pace()

    def put(self, waiting: Waiting[Reply], now: float = -inf) -> None:
        """Raises Overloaded where the line before it is too long for its deadline, at `now`."""
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
        self._require_time(self._line_of(waiting), waiting.sharer, waiting.deadline - now)
        self.put_back(waiting)

    def require_time(self, message_bytes: int, sharer: Sharer, left_s: float) -> None:
        """The same for a message that is not here yet, where its size alone says that it will be a large job."""
        if message_bytes > self._small_bytes or LEAST_BYTE_NS * message_bytes > self._small_ns:
            self._require_time(self._large, sharer, left_s)

    def _require_time(self, line: FairQueue[Waiting[Reply]], sharer: Sharer, left_s: float) -> None:
        if len(line):
            wait_s = self._wait_s(line, sharer)
            if wait_s > LINE_PART * left_s:
                raise line_too_long(wait_s, left_s)

    def put_back(self, waiting: Waiting[Reply]) -> None:
        """The same for a huge job of which parts are left."""
        cost_ns = min(waiting.cost_ns, self._max_ns)  # of its next part, where it is huge
        self._line_of(waiting).put(waiting.sharer, cost_ns + JOB_NS, waiting)

    def ran(self, batch: Batch[Reply], now: float) -> None:
        """A batch that was taken is done."""
        if batch.waiting[0].cut is None:
            self._pace.observe(batch.cost_ns + JOB_NS * len(batch.jobs), now - batch.taken)

    def _line_of(self, waiting: Waiting[Reply]) -> FairQueue[Waiting[Reply]]:
        small = waiting.bytes <= self._small_bytes and waiting.cost_ns <= self._small_ns
        return self._small if small else self._large

    def _wait_s(self, line: FairQueue[Waiting[Reply]], sharer: Sharer) -> float:
        """How long what is in line before this connection's next will take: the other line has every other batch."""
        other, ahead = self._small if line is self._large else self._large, line.ahead_of(sharer)
        return self._pace.seconds(ahead + min(ahead, other.in_line))

    @property
    def wait_s(self) -> float:
        """How long all that is in line will take."""
        return self._pace.seconds(self._small.in_line + self._large.in_line)

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
        self, line: FairQueue[Waiting[Reply]], now: float, max_ns: float, late: list[Waiting[Reply]]
    ) -> Batch[Reply] | None:
        waiting: list[Waiting[Reply]] = []
        jobs: list[Job] = []
        size = rows = requests = copies = 0
        cost = 0.0
        while (next_one := line.first()) is not None:
            sharer, first = next_one
            if first.job is None:
                line.drop(sharer)
            elif first.deadline <= now or (
                len(line) > 1 and first.deadline <= now + self._pace.seconds(cost + first.cost_ns)
            ):
                late.append(line.drop(sharer))
            elif jobs and (
                first.cut is not None
                or size + first.bytes > self._max_bytes
                or rows + first.rows > self._max_rows
                or cost + first.cost_ns > max_ns
                or copies + first.job.converted_bytes > COPIES_BYTES
            ):
                break
            else:
                waiting.append(line.pop())
                jobs.append(first.job)
                size += first.bytes
                cost += first.cost_ns
                copies += first.job.converted_bytes
                rows += first.rows
                requests += first.requests
                if first.cut is not None:
                    break
        return Batch(waiting, jobs, size, rows, requests, cost, now) if jobs else None

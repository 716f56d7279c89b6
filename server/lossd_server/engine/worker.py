"""Worker: the one place with a thread. It runs batches on the backend and gives each job its answer.

Work-conserving: an idle worker takes what is there at once, and while it works the next batch grows. What is small is
computed on the event loop's own thread, for handing it over costs more than computing it: at once where no other call
is on its way in, else after a few turns of the loop, so that what arrives together makes one batch. A huge job keeps
the thread part by part, for as long as nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Any

from lossd_server.backends import Backend, DeviceLost
from lossd_server.call.contract import Message
from lossd_server.call.identity import Sharer
from lossd_server.engine.batch_counts import BatchCounts
from lossd_server.engine.batcher import NOBODY, Batch, Batcher, Form, Waiting
from lossd_server.engine.chunked_job import ChunkedJob
from lossd_server.engine.evaluate import evaluate
from lossd_server.engine.finish import answer_of_parts
from lossd_server.engine.job_cost import INLINE_PART_NS, PART_NS, job_ns
from lossd_server.engine.replies import Outcome, Reply, give_reply
from lossd_server.engine.uncomputed import DEVICE_LOST, deadline_over, device_gone
from lossd_server.errors import OUT_OF_MEMORY_RETRY_S, GoingAway, ServerError, shortage
from lossd_server.jobs.gradient_placement import void_failed
from lossd_server.jobs.job import Job
from lossd_server.jobs.partial_results import join_parts, moved
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.wire import codec

log = logging.getLogger(__name__)


# Turns of the loop that a job waits for those that are being read: microseconds. gRPC's loop accepts one call a turn.
GATHER_TURNS = 4


class Worker:
    """Runs what is submitted. Everything but `_serve`, the thread's own body, belongs to the event loop's thread."""

    def __init__(
        self,
        backend: Backend,
        max_batch_bytes: int,
        max_batch_rows: int,
        metrics: WorkerMetrics,
        piece_bytes: int | None = None,
    ) -> None:
        self._counts = BatchCounts(metrics)
        self.lost = asyncio.Event()  # the device cannot be used any more: nothing but a new process helps
        self.arriving = 0  # calls whose message is still being read: kept by the service
        self._backend = backend
        self._inline_ns = backend.inline_ns
        self._inline_part_ns = INLINE_PART_NS if backend.inline_ns else 0.0
        self._batcher: Batcher[Reply] = Batcher(
            max_batch_bytes,
            max_batch_rows,
            max_batch_bytes if backend.inline_ns else max_batch_bytes // 64,
            piece_bytes or max_batch_bytes // 2,
            cost=partial(job_ns, backend),
            small_ns=backend.inline_ns or inf,
            max_ns=PART_NS,
        )
        self._loop = asyncio.get_running_loop()
        self._gathering = False  # a flush is scheduled
        self._turns = 0  # that it has been put off for
        self._busy = False  # the thread has a batch
        self._busy_s = self._busy_since_s = 0.0  # it had them for so long, and has this one since
        self._delivering = False  # answers are being given out
        self._batches: SimpleQueue[Batch[Reply] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="lossd-worker", daemon=True)
        self._thread.start()

    def busy_s(self, now: float) -> float:
        """Seconds for which the thread has had something to compute, until `now` on time.monotonic."""
        return self._busy_s + (now - self._busy_since_s if self._busy else 0.0)

    @property
    def wait_s(self) -> float:
        """How long what is in line will take."""
        return self._batcher.wait_s

    def submit(
        self, job: Job, deadline: float, form: Form | None = None, sharer: Sharer = NOBODY
    ) -> Waiting[asyncio.Future[Message]]:
        """Puts `job` in line. `deadline` is on time.monotonic. The answer's bytes, or an exception, come to `reply`."""
        waiting: Waiting[asyncio.Future[Message]] = Waiting(
            job, deadline, time.monotonic_ns(), self._loop.create_future(), form=form, sharer=sharer
        )
        self.submit_all((waiting,))
        return waiting

    def require_time(self, message_bytes: int, sharer: Sharer, deadline: float) -> None:
        """Before a message is read. Raises Overloaded where what is in line leaves it no time."""
        if self._batcher:
            self._batcher.require_time(message_bytes, sharer, deadline - time.monotonic())

    def submit_all(self, line: Sequence[Waiting[Any]]) -> None:
        """Puts jobs in line, so that small ones make one batch. Answers may come before this returns."""
        now = time.monotonic() if self._batcher else -inf
        for waiting in line:
            try:
                self._batcher.put(waiting, now)
            except Exception as error:  # the line is too long, or a huge job's gradients have no room
                give_reply(waiting, shortage(error) or error)
        if not self._gathering:
            if self.arriving or self._delivering:  # or called by who was given an answer: not deeper and deeper
                self._gathering = True
                self._loop.call_soon(self._gather)
            else:
                self._flush()

    def close(self) -> None:
        """Waits for the batch in the thread; nothing may be submitted afterwards."""
        self._batches.put(None)
        self._thread.join()

    def _gather(self) -> None:
        if self.arriving and self._turns < GATHER_TURNS:
            self._turns += 1
            self._loop.call_soon(self._gather)
            return
        self._turns = 0
        self._gathering = False
        self._flush()

    def _flush(self) -> None:
        """Takes one batch, and comes back in the loop's next turn while there is more and someone to compute it."""
        try:
            self._take_one(time.monotonic())
        except MemoryError:  # what is in line stays there
            log.warning("no memory to take a batch")
            self._loop.call_later(OUT_OF_MEMORY_RETRY_S, self._flush)

    def _take_one(self, now: float) -> None:
        if self._busy:  # small jobs need not wait for the thread, which has large ones
            batch, late = self._batcher.take_small(now, self._inline_ns) if self._inline_ns else (None, [])
        else:
            batch, late = self._batcher.take(now)
        for waiting in late:
            give_reply(waiting, deadline_over())
        if batch is None:
            return
        if batch.cost_ns <= (self._inline_ns if batch.waiting[0].carry is None else self._inline_part_ns):
            self._deliver(batch, self._outcomes(batch))
        else:
            self._busy, self._busy_since_s = True, now
            self._batches.put(batch)
        if self._batcher and not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._gather)

    def _serve(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Waits for a batch and runs it: a function of its own, so that nothing of it is kept while waiting."""
        batch = self._batches.get()
        if batch is None:
            return False
        outcomes = self._outcomes(batch)
        try:
            self._loop.call_soon_threadsafe(self._done, batch, outcomes)
        except RuntimeError:  # the loop was closed without waiting for us
            return False
        return True

    def _outcomes(self, batch: Batch[Reply]) -> list[Outcome]:
        """Of a batch in the thread, which goes on whatever happens here."""
        try:
            cut = batch.waiting[0].cut
            if cut is None:
                outcomes = compute(self._backend, batch)
            else:
                outcomes = [compute_parts(self._backend, batch.waiting[0], cut, lambda: bool(self._batcher))]
                batch.start_ns, batch.took_ns = cut.started_ns, cut.compute_ns
            void_failed(batch.jobs, outcomes)
        except Exception as error:
            return [shortage(error) or error] * len(batch.waiting)
        return outcomes

    def _done(self, batch: Batch[Reply], outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        self._busy, self._busy_s = False, self._busy_s + now - self._busy_since_s
        self._batcher.ran(batch, now)
        if outcomes == [None]:
            self._batcher.put_back(batch.waiting[0])
        else:
            self._deliver(batch, outcomes)
        self._flush()

    def _deliver(self, batch: Batch[Reply], outcomes: list[Outcome]) -> None:
        self._counts.count(batch)
        self._delivering = True
        if any(isinstance(outcome, GoingAway) and outcome.reason == DEVICE_LOST for outcome in outcomes):
            self.lost.set()
        try:
            for waiting, outcome in zip(batch.waiting, outcomes, strict=True):
                give_reply(waiting, outcome)
        finally:
            self._delivering = False


def compute(backend: Backend, batch: Batch[Reply]) -> list[Outcome]:
    """The serialised answer of each job, or what went wrong with that one alone.

    A batch that fails as a whole is run again job by job, so that only the culprit fails.
    """
    if all(waiting.job is None for waiting in batch.waiting):  # nobody waits any more
        return [deadline_over()] * len(batch.jobs)
    start_ns = time.monotonic_ns()
    try:
        answers = evaluate(backend, batch.jobs, [waiting.carry for waiting in batch.waiting])
        took_ns = time.monotonic_ns() - start_ns
        batch.start_ns, batch.took_ns = start_ns, took_ns
        requests, rows = batch.requests, batch.rows
        return [
            answer
            if isinstance(answer, Exception)
            else (waiting.form or codec.encode_parts)(answer, start_ns - waiting.queued_ns, took_ns, requests, rows)
            for waiting, answer in zip(batch.waiting, answers, strict=True)
        ]
    except DeviceLost as error:
        return [device_gone(error)] * len(batch.jobs)
    except Exception as error:
        if len(batch.jobs) > 1:
            outcomes = [compute(backend, alone)[0] for alone in batch.one_by_one()]
            batch.start_ns, batch.took_ns = start_ns, time.monotonic_ns() - start_ns
            return outcomes
        return [shortage(error) or error]


def compute_parts(
    backend: Backend, waiting: Waiting[Reply], cut: ChunkedJob, others_wait: Callable[[], bool]
) -> Outcome:
    """Runs parts of a huge job, one at least, until none is left or others wait. None: parts are left."""
    form, whole = waiting.form or codec.encode_parts, waiting.carry is None
    try:
        while cut.left:
            if waiting.job is None or time.monotonic() >= waiting.deadline:
                return deadline_over()
            start_ns = time.monotonic_ns()
            cut.started_ns = cut.started_ns or start_ns
            outcome = _next_part(backend, cut)
            cut.compute_ns += time.monotonic_ns() - start_ns
            if outcome is not None:
                return outcome
            if cut.left and others_wait():
                return None
        answer = join_parts(cut.job, cut.answers)
        if whole:
            assert cut.carry is not None
            answer = answer_of_parts(cut.job, cut.carry, answer)
        return form(answer, cut.started_ns - waiting.queued_ns, cut.compute_ns, 1, waiting.rows)
    except DeviceLost as error:
        return device_gone(error)
    except Exception as error:
        return shortage(error) or error


def _next_part(backend: Backend, cut: ChunkedJob) -> ServerError | None:
    if cut.carry is None:
        return cut.begin()
    (answer,) = evaluate(backend, [cut.part()], [cut.carry])
    if isinstance(answer, ServerError):
        return moved(answer, cut.first)
    cut.add(answer)
    return None

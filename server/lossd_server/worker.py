"""The one place with a thread: runs batches on the backend and gives each job its answer.

Work-conserving: an idle worker takes what is there at once, and while it works the next batch grows. What is small is
computed on the event loop's own thread, for handing it over costs more than computing it: at once where no other call
is on its way in, else after a few turns of the loop, so that what arrives together makes one batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue

from lossd_server import codec
from lossd_server.backends import Backend
from lossd_server.batcher import Batch, Batcher, Waiting
from lossd_server.errors import DeadlineOver, Overloaded
from lossd_server.evaluate import evaluate
from lossd_server.job import Job

Reply = asyncio.Future[bytes]
Outcome = bytes | Exception

OUT_OF_MEMORY_RETRY_S = 1.0
# Turns of the loop that a job waits for those that are being read: microseconds. gRPC's loop accepts one call a turn.
GATHER_TURNS = 4


class Worker:
    """Runs what is submitted. Everything but `_serve`, the thread's own body, belongs to the event loop's thread."""

    def __init__(self, backend: Backend, max_batch_bytes: int, max_batch_rows: int) -> None:
        self.batches = 0
        self.rows = 0
        self.arriving = 0  # calls whose message is still being read: kept by the service
        self._backend = backend
        self._inline_bytes = backend.inline_bytes
        small_bytes = backend.inline_bytes or max_batch_bytes // 64
        self._batcher: Batcher[Reply] = Batcher(max_batch_bytes, max_batch_rows, small_bytes)
        self._loop = asyncio.get_running_loop()
        self._gathering = False  # a flush is scheduled
        self._turns = 0  # that it has been put off for
        self._busy = False  # the thread has a batch
        self._batches: SimpleQueue[Batch[Reply] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="lossd-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Job, deadline: float) -> Waiting[Reply]:
        """Puts `job` in line. `deadline` is on time.monotonic. The answer's bytes, or an exception, come to `reply`."""
        waiting = Waiting(job, deadline, time.monotonic_ns(), self._loop.create_future())
        self._batcher.put(waiting)
        if not self._gathering:
            if self.arriving:
                self._gathering = True
                self._loop.call_soon(self._gather)
            else:
                self._flush()
        return waiting

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
        now = time.monotonic()
        if self._busy:  # small jobs need not wait for the thread, which has large ones
            batch, late = self._batcher.take_small(now, self._inline_bytes) if self._inline_bytes else (None, [])
        else:
            batch, late = self._batcher.take(now)
        for waiting in late:
            _answer(waiting, deadline_over())
        if batch is None:
            return
        if batch.bytes <= self._inline_bytes:
            self._deliver(batch, compute(self._backend, batch))
        else:
            self._busy = True
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
        outcomes = compute(self._backend, batch)
        try:
            self._loop.call_soon_threadsafe(self._done, batch, outcomes)
        except RuntimeError:  # the loop was closed without waiting for us
            return False
        return True

    def _done(self, batch: Batch[Reply], outcomes: list[Outcome]) -> None:
        self._busy = False
        self._deliver(batch, outcomes)
        self._flush()

    def _deliver(self, batch: Batch[Reply], outcomes: list[Outcome]) -> None:
        self.batches += 1
        self.rows += batch.rows
        for waiting, outcome in zip(batch.waiting, outcomes, strict=True):
            _answer(waiting, outcome)


def compute(backend: Backend, batch: Batch[Reply]) -> list[Outcome]:
    """The serialised answer of each job, or what went wrong with that one alone.

    A batch that fails as a whole is run again job by job, so that only the culprit fails.
    """
    start_ns = time.monotonic_ns()
    try:
        answers = evaluate(backend, batch.jobs)
        took_ns = time.monotonic_ns() - start_ns
        requests, rows = len(batch.jobs), batch.rows
        return [
            answer
            if isinstance(answer, Exception)
            else codec.encode(answer, start_ns - waiting.queued_ns, took_ns, requests, rows)
            for waiting, answer in zip(batch.waiting, answers, strict=True)
        ]
    except Exception as error:
        if len(batch.jobs) > 1:
            return [compute(backend, alone)[0] for alone in _one_by_one(batch)]
        return [out_of_memory() if isinstance(error, MemoryError) else error]


def _one_by_one(batch: Batch[Reply]) -> list[Batch[Reply]]:
    return [
        Batch([waiting], [job], waiting.bytes, waiting.rows)
        for waiting, job in zip(batch.waiting, batch.jobs, strict=True)
    ]


def _answer(waiting: Waiting[Reply], outcome: Outcome) -> None:
    waiting.abandon()  # lets go of the job
    reply = waiting.reply
    if reply.done():  # cancelled while it was computed
        return
    if isinstance(outcome, bytes):
        reply.set_result(outcome)
    else:
        reply.set_exception(outcome)


def deadline_over() -> DeadlineOver:
    return DeadlineOver("the call's time was over before it was computed", reason="DEADLINE_EXCEEDED")


def out_of_memory() -> Overloaded:
    return Overloaded(
        "the server has not enough memory for this request now",
        reason="OUT_OF_MEMORY",
        retry_after_s=OUT_OF_MEMORY_RETRY_S,
    )

"""The worker's threads: which of them computes a job, for every loss and dtype."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from lossd_server.backends import Backend
from lossd_server.backends.numba import NumbaBackend
from lossd_server.engine import evaluate
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.job_cost import INLINE_PART_NS, job_ns
from lossd_server.engine.worker import Worker
from lossd_server.errors import Overloaded
from lossd_server.jobs.job import Computed, Job, Launch
from lossd_server.jobs.partial_results import Carry
from lossd_server.losses import conversion
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.wire import codec
from tests.losses.checked import check
from tests.losses.requests import rpc
from tests.server.engine.every_loss import jobs, requests

NEVER = float("inf")
LARGE = 16_384, 40  # more than is done on the loop, whatever the loss
LOOP = "MainThread"


class Watched(NumbaBackend):
    """thread_names: of those that ran a batch, and of those that converted what takes long."""

    def __init__(self) -> None:
        super().__init__(1)
        self.thread_names: set[str] = set()
        self.jobs = 0

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.thread_names.add(threading.current_thread().name)
        self.jobs += len(launches)
        return super().run(launches)


class Held(Watched):
    """entered: a batch has begun; it goes on once it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.entered.set()
        self.released.wait()
        return super().run(launches)


@asynccontextmanager
async def working(backend: Backend) -> AsyncIterator[Worker]:
    worker = Worker(backend, 64 << 20, 1 << 24, WorkerMetrics())
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.close)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    backend = Watched()

    def convert(job: Job) -> Job:
        if conversion.conversion_cost(job).ns > conversion.QUICK_NS:
            backend.thread_names.add(threading.current_thread().name)
        return whole(job)

    whole = conversion.convert
    monkeypatch.setattr(conversion, "convert", convert)
    monkeypatch.setattr(evaluate, "convert", convert)
    return backend


async def computed(worker: Worker, job: Job, carry: Carry | None) -> None:
    waiting = Waiting(job, NEVER, 0, asyncio.get_running_loop().create_future(), carry, codec.encode)
    worker.submit_all((waiting,))
    await waiting.reply


@pytest.mark.parametrize("carry", [None, Carry(1.0)], ids=["whole", "block"])
def test_what_takes_long_is_not_computed_on_the_loop(watched: Watched, carry: Carry | None) -> None:
    """From check to answer: no loss, of no dtype, converts or computes on the event loop's thread above its bound."""

    async def run() -> None:
        async with working(watched) as worker:
            for name, request in requests(*LARGE):
                watched.thread_names.clear()
                job = check(rpc(request), request)
                assert job_ns(watched, job) > INLINE_PART_NS, name
                await computed(worker, job, carry)

                assert watched.thread_names, name
                assert LOOP not in watched.thread_names, name

    asyncio.run(run())


def test_what_is_quick_needs_no_thread(watched: Watched) -> None:
    """A small job is computed where it was submitted."""

    async def run() -> None:
        async with working(watched) as worker:
            for name, job in jobs(8, 16):
                watched.thread_names.clear()
                await computed(worker, job, None)

                assert watched.thread_names == {LOOP}, name

    asyncio.run(run())


def test_a_batch_whose_callers_are_gone_is_not_computed(numba: Backend) -> None:
    """Cancelled between the line and the thread, a batch costs nothing."""

    async def run() -> None:
        backend = Held()
        async with working(backend) as worker:
            large = [job for name, job in jobs(*LARGE) if name.startswith("bce")][:3]
            first = worker.submit(large[0], NEVER)
            await asyncio.to_thread(backend.entered.wait)
            gone = [worker.submit(job, NEVER) for job in large[1:]]
            for one in gone:
                one.reply.cancel()
                one.abandon()
            backend.released.set()
            await first.reply
            await worker.submit(large[0], NEVER).reply

            assert backend.jobs == 2

    asyncio.run(run())


def test_what_cannot_be_answered_in_time_is_refused_when_it_comes(numba: Backend) -> None:
    """While the thread is held, a line of long jobs grows; one that has less time than the line takes is told so at
    once and costs nothing, and the others are computed."""

    async def run() -> None:
        backend = Held()
        async with working(backend) as worker:
            job = next(job for name, job in jobs(*LARGE) if name.startswith("cross_entropy"))
            line = [worker.submit(job, NEVER)]
            await asyncio.to_thread(backend.entered.wait)
            line += [worker.submit(job, NEVER) for _ in range(100)]
            hurried = worker.submit(job, time.monotonic() + 1e-4)
            with pytest.raises(Overloaded, match="what is in line before"):
                await hurried.reply
            backend.released.set()
            await asyncio.gather(*(one.reply for one in line))

            assert backend.jobs == 101

    asyncio.run(run())

"""The worker's threads: which of them computes a job, for every loss and dtype."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from lossd_server.backends import Backend
from lossd_server.backends.numba import NumbaBackend
from lossd_server.engine import evaluate
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.job_cost import INLINE_PART_NS, job_ns
from lossd_server.engine.worker import Worker
from lossd_server.jobs.job import Computed, Job, Launch
from lossd_server.jobs.partial_results import Carry
from lossd_server.losses import conversion
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


@asynccontextmanager
async def working(backend: Backend) -> AsyncIterator[Worker]:
    worker = Worker(backend, 64 << 20, 1 << 24)
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
        backend = Watched()
        held = threading.Event()
        async with working(backend) as worker:
            run, entered = backend.run, threading.Event()

            def waits(launches: Sequence[Launch]) -> list[Computed]:
                entered.set()
                held.wait()
                return run(launches)

            backend.run = waits  # type: ignore[method-assign]
            large = [job for name, job in jobs(*LARGE) if name.startswith("bce")][:3]
            first = worker.submit(large[0], NEVER)
            await asyncio.to_thread(entered.wait)
            gone = [worker.submit(job, NEVER) for job in large[1:]]
            for one in gone:
                one.reply.cancel()
                one.abandon()
            held.set()
            await first.reply
            await worker.submit(large[0], NEVER).reply

            assert backend.jobs == 2

    asyncio.run(run())

"""Huge jobs in pieces: small ones run in between, others take turns, deadlines and cancellations are seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.call.contract import whole_message
from lossd_server.engine.batcher import Batcher, Waiting
from lossd_server.engine.evaluate import evaluate
from lossd_server.engine.worker import Worker
from lossd_server.errors import DeadlineOver, InvalidRequest, Overloaded
from lossd_server.jobs.job import Answer
from lossd_server.losses import check
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.wire import codec
from tests.losses.messages import tensor
from tests.server.edge import GLUTTON, POISON, EdgeBackend
from tests.server.messages import job

NEVER = float("inf")
KIB = 1024
HUGE = 64, 1 << 10  # 256 KiB of input


@asynccontextmanager
async def working(backend: Backend, metrics: WorkerMetrics | None = None) -> AsyncIterator[Worker]:
    """A worker whose pieces are of 64 KiB."""
    worker = Worker(backend, 64 * KIB, 1 << 24, metrics or WorkerMetrics(), piece_bytes=64 * KIB)
    try:
        yield worker
    finally:
        await asyncio.to_thread(worker.close)


def rows(backend: EdgeBackend) -> list[list[int]]:
    """Rows of each job of each run."""
    return [[one.layout.rows for one in jobs] for jobs in backend.runs]


def test_a_huge_job_goes_to_the_end_of_its_line() -> None:
    """Of two huge jobs each has a piece in turn, alone, and small jobs run after each piece."""
    batcher: Batcher[str] = Batcher(64 * KIB, 1 << 24, KIB, 64 * KIB)
    huge = [Waiting(job(*HUGE), NEVER, 0, name) for name in ("a", "b")]
    for one in huge:
        batcher.put(one)
    order = []
    for n in range(3):
        batcher.put(Waiting(job(1), NEVER, 0, f"small {n}"))
        for _ in range(2):
            batch, _ = batcher.take(0.0)
            assert batch is not None
            order.append("+".join(one.reply for one in batch.waiting))
            if batch.waiting[0].cut is not None:
                batcher.put_back(batch.waiting[0])

    assert order == ["small 0", "a", "small 1", "b", "small 2", "a"]


@pytest.mark.parametrize("gradient", [False, True])
def test_pieces_have_the_answer_of_the_whole(numba: Backend, gradient: bool) -> None:
    """A job computed in pieces is answered with the bytes of one that was not."""
    rng = np.random.default_rng(3)
    request = pb.CrossEntropyRequest(
        input=tensor(rng.normal(size=(300, 900))),
        target=tensor(rng.integers(0, 900, 300), "int64"),
        gradients=[loss_pb2.GRADIENT_INPUT] if gradient else [],
        outputs=[loss_pb2.OUTPUT_LSE, loss_pb2.OUTPUT_ARGMAX],
    )
    whole = check("CrossEntropy", codec.decode_fields("CrossEntropy", request.SerializeToString()))
    (answer,) = evaluate(numba, [whole])
    assert isinstance(answer, Answer)

    async def run() -> Any:
        metrics = WorkerMetrics()
        async with working(numba, metrics) as worker:
            found = pb.CrossEntropyResponse.FromString(whole_message(await worker.submit(whole, NEVER).reply))
            assert metrics.batches()[0] == 1
            return found

    found = asyncio.run(run())
    expected = pb.CrossEntropyResponse.FromString(codec.encode(answer, 0, 0, 1, 300))
    for one in (found, expected):
        one.ClearField("timing")
    assert found == expected


def test_a_small_job_runs_between_pieces() -> None:
    """A job that comes while a huge one is computed waits for one piece of it."""

    async def run() -> None:
        backend = EdgeBackend()
        async with working(backend) as worker:
            backend.gate.clear()
            huge = worker.submit(job(*HUGE), NEVER)
            await asyncio.to_thread(backend.until_entered)
            small = worker.submit(job(3), NEVER)
            backend.gate.set()
            await asyncio.gather(huge.reply, small.reply)

            assert rows(backend)[:2] == [[15], [3]]
            assert sum(count for run in rows(backend)[2:] for count in run) == 64 - 15

    asyncio.run(run())


@pytest.mark.parametrize("ending", ["deadline", "abandoned"])
def test_nobody_waits_any_more(ending: str) -> None:
    """A huge job whose time is over, or whose caller has gone, is computed no further."""

    async def run() -> None:
        backend = EdgeBackend()
        async with working(backend) as worker:
            backend.gate.clear()
            huge = worker.submit(job(*HUGE), NEVER)
            await asyncio.to_thread(backend.until_entered)
            if ending == "deadline":
                huge.deadline = time.monotonic()
            else:
                huge.reply.cancel()
                huge.abandon()
            backend.gate.set()
            if ending == "deadline":
                with pytest.raises(DeadlineOver):
                    await huge.reply
            await worker.submit(job(3), NEVER).reply

            assert rows(backend) == [[15], [3]]

    asyncio.run(run())


def test_a_fault_in_a_piece(numba: Backend) -> None:
    """A value that is refused in a later piece is named by its place in the whole."""

    async def run() -> None:
        target = np.zeros(64)
        target[50] = 4096
        request = pb.CrossEntropyRequest(input=tensor(np.zeros(HUGE)), target=tensor(target, "int64"))
        async with working(numba) as worker:
            bad = check("CrossEntropy", codec.decode_fields("CrossEntropy", request.SerializeToString()))
            with pytest.raises(InvalidRequest, match=r"target\[50\] = 4096 is outside"):
                await worker.submit(bad, NEVER).reply

    asyncio.run(run())


@pytest.mark.parametrize("ignore_index, raised", [(POISON, RuntimeError), (GLUTTON, Overloaded)])
def test_what_the_backend_raises_in_a_piece(ignore_index: int, raised: type[Exception]) -> None:
    """It is the job's, as for a whole one (no memory: come back later); the next job is answered."""

    async def run() -> None:
        async with working(EdgeBackend()) as worker:
            with pytest.raises(raised):
                await worker.submit(job(*HUGE, ignore_index), NEVER).reply
            await worker.submit(job(3), NEVER).reply

    asyncio.run(run())

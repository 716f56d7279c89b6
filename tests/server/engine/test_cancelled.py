"""Cancelled jobs: how far they are still computed, for every loss, and whichever way their caller goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as service
from lossd.v1.service_pb2 import StreamRequest
from lossd_server.backends.numba import NumbaBackend
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.worker import Worker
from lossd_server.jobs.job import Computed, Job, Launch
from lossd_server.jobs.partial_results import Carry
from lossd_server.jobs.slicing import items
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.wire import codec
from tests.losses.checked import check
from tests.server.edge import EdgeBackend
from tests.server.engine.every_loss import F32, jobs, ones
from tests.server.messages import cross_entropy, job
from tests.server.running import finished, serving_at, stub, until_held
from tests.server.streaming.conversation import Talk, block, opened
from tests.waiting import WAIT_S

NEVER = float("inf")
KIB = 1024
SOME = dict(jobs(4096, 16))


class Counting(NumbaBackend):
    """runs: how many there were. Each waits for the gate."""

    def __init__(self) -> None:
        super().__init__(1)
        self.runs = 0
        self.gate, self.entered = threading.Event(), threading.Event()

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.runs += 1
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        return super().run(launches)


async def runs_after_cancelling(of: Job, carry: Carry | None) -> tuple[int, int]:
    """Runs of a job that is cancelled while the first of them is computed; and of one that is not."""
    backend = Counting()
    worker = Worker(backend, 64 << 20, 1 << 24, WorkerMetrics(), piece_bytes=of.work_bytes // 5)
    loop = asyncio.get_running_loop()
    found = []
    try:
        for cancelled in (True, False):
            backend.runs = 0
            backend.entered.clear()
            backend.gate.clear()
            one = Waiting(of, NEVER, 0, loop.create_future(), carry, codec.encode)
            worker.submit_all((one,))
            await asyncio.to_thread(backend.entered.wait, WAIT_S)
            if cancelled:
                one.reply.cancel()
                one.abandon()
            backend.gate.set()
            after = worker.submit(job(1), NEVER)
            if not cancelled:
                await one.reply
            await after.reply
            found.append(backend.runs - 1)  # without the one after it
    finally:
        await asyncio.to_thread(worker.close)
    return found[0], found[1]


@pytest.mark.parametrize("carry", [None, Carry(1.0)], ids=["whole", "block"])
@pytest.mark.parametrize("name", SOME)
def test_a_cancelled_job_ends_with_the_part_that_is_computed(name: str, carry: Carry | None) -> None:
    """Of a job in five parts and more, one is computed; it is the same for every loss, dtype and target."""
    after, whole = asyncio.run(runs_after_cancelling(SOME[name], carry))

    assert whole >= 5
    assert after == 1


def test_one_item_is_computed_whole() -> None:
    """A single row has one maximum and one sum, so that there is nothing to stop at."""
    row = check("Entropy", service.EntropyRequest(input=ones(F32, 1, 1 << 19)))

    assert items(row) == 1
    assert asyncio.run(runs_after_cancelling(row, None)) == (1, 1)


Leaving = Callable[[grpc.aio.Channel, Any], Awaitable[object]]


async def cancels(channel: grpc.aio.Channel, call: Any) -> None:
    call.cancel()


async def disconnects(channel: grpc.aio.Channel, call: Any) -> None:
    await channel.close()


@pytest.mark.parametrize("leave", [cancels, disconnects])
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_whichever_way_the_caller_goes(streamed: bool, leave: Leaving) -> None:
    """A call that is cancelled, or whose connection is gone, is computed no further than the part under way."""
    request = cross_entropy(512, 256)

    async def run() -> None:
        backend = EdgeBackend()
        async with serving_at(backend, max_batch_bytes=128 * KIB) as (_, watching, address):
            channel = grpc.aio.insecure_channel(address)
            backend.gate.clear()
            if streamed:
                talk = Talk(channel)
                call = talk.call
                request.reduction = loss_pb2.REDUCTION_SUM
                names = ("input", "target")
                await talk.send(StreamRequest(open=opened(request, 1, names)), block(request, 1, names, 0, 512))
            else:
                call = stub(channel).CrossEntropy(request)
                ending = finished(call)
            await asyncio.to_thread(backend.until_entered)
            await leave(channel, call)
            await until_held(watching, (0, 0))
            backend.gate.set()
            await stub(watching).CrossEntropy(cross_entropy(3))
            if not streamed:
                await asyncio.gather(ending, return_exceptions=True)
            await channel.close()

            assert [[one.layout.rows for one in jobs] for jobs in backend.runs] == [[63], [3]]

    asyncio.run(run())

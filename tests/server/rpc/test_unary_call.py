"""Calls that end before their answer: deadlines, cancellations, bodies that do not come."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio
import pytest

from lossd.v1 import service_pb2 as service
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import details, finished, held, raw_stream, refused, serving, stub, until_held, until_requests


def test_deadline() -> None:
    """A call whose time runs out in line ends with DEADLINE_EXCEEDED, gives its bytes back, and is never computed."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            first = finished(stub(channel).CrossEntropy(cross_entropy()))
            await asyncio.to_thread(backend.until_entered)
            alone = await held(channel)
            error = await refused(stub(channel).CrossEntropy(cross_entropy(), timeout=0.05))
            await until_held(channel, alone)
            backend.gate.set()
            await first
            await stub(channel).CrossEntropy(cross_entropy(5))

            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert [[job.layout.rows for job in jobs] for jobs in backend.runs] == [[4], [5]]

    asyncio.run(run())


def test_servers_own_deadline() -> None:
    """A call without a deadline is given up at the server's greatest one, with the reason."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, max_deadline_s=1000.0) as (server, channel):
            backend.gate.clear()
            first = finished(stub(channel).CrossEntropy(cross_entropy()))
            await asyncio.to_thread(backend.until_entered)
            server.service.expire(time.monotonic() + 999.0)
            second = finished(stub(channel).CrossEntropy(cross_entropy()))
            await until_requests(channel, 2)
            await refused(stub(channel).CrossEntropy(service.CrossEntropyRequest()))  # went past where the second is
            server.service.expire(time.monotonic() + 1001.0)
            error = await refused(second)
            backend.gate.set()

            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert details(error)["ErrorInfo"].reason == "DEADLINE_EXCEEDED"
            assert (await refused(first)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert len(backend.runs) == 1

    asyncio.run(run())


def test_cancellation() -> None:
    """A cancelled call gives its bytes back while it is still in line, and is never computed."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            first = finished(stub(channel).CrossEntropy(cross_entropy()))
            await asyncio.to_thread(backend.until_entered)
            alone = await held(channel)
            calls = [stub(channel).CrossEntropy(cross_entropy()) for _ in range(10)]
            endings = [finished(call) for call in calls]
            await until_requests(channel, 11)
            for call in calls:
                call.cancel()
            await until_held(channel, alone)
            backend.gate.set()
            await first
            await asyncio.gather(*endings, return_exceptions=True)
            await stub(channel).CrossEntropy(cross_entropy(5))

            assert [[job.layout.rows for job in jobs] for jobs in backend.runs] == [[4], [5]]

    asyncio.run(run())


@pytest.mark.usefixtures("grpcio_alone")  # a message of unknown size is reserved for
def test_body_that_does_not_come() -> None:
    """A call whose message is not there in time ends with DEADLINE_EXCEEDED, and gives its reservation back."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_body_s=1000.0) as (server, channel):
            call = raw_stream(channel, "CrossEntropy")()
            ending = finished(call)
            await until_requests(channel, 1)
            assert await held(channel) == (16 << 20, 1)
            server.service.expire(time.monotonic() + 1001.0)
            error = await refused(ending)

            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert details(error)["ErrorInfo"].reason == "BODY_TIMEOUT"
            assert await held(channel) == (0, 0)

    asyncio.run(run())


@pytest.mark.usefixtures("grpcio_alone")  # a message of unknown size is reserved for
def test_readers_wait_for_each_other() -> None:
    """Calls of unknown size beyond the budget wait until others are read or gone, and are then answered."""

    async def run() -> None:
        limits = {"max_message_bytes": 1 << 20, "max_inflight_bytes": 2 << 20}
        async with serving(EdgeBackend(), **limits) as (_, channel):
            slow = [raw_stream(channel, "CrossEntropy")() for _ in range(2)]
            endings = [finished(call) for call in slow]
            await until_requests(channel, 2)
            waiting = [finished(stub(channel).CrossEntropy(cross_entropy())) for _ in range(5)]
            gone = stub(channel).CrossEntropy(cross_entropy())
            gone_ending = finished(gone)
            for _ in range(20):
                await held(channel)
            assert not any(one.done() for one in (*waiting, gone_ending))
            gone.cancel()
            for call in slow:
                call.cancel()
            answers = await asyncio.gather(*waiting)
            await asyncio.gather(*endings, gone_ending, return_exceptions=True)

            assert [answer.summary.count for answer in answers] == [4] * 5
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_stopping() -> None:
    """While the server goes away an accepted call is answered, and a new one hears UNAVAILABLE with RetryInfo."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (server, channel):
            backend.gate.clear()
            accepted = finished(stub(channel).CrossEntropy(cross_entropy()))
            await asyncio.to_thread(backend.until_entered)
            stopping = asyncio.ensure_future(server.service.drain(60.0))
            await asyncio.sleep(0)
            error = await refused(stub(channel).CrossEntropy(cross_entropy()))
            assert not stopping.done()
            backend.gate.set()

            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "RetryInfo" in details(error)
            assert (await accepted).summary.count == 4
            assert await stopping

    asyncio.run(run())


@pytest.mark.usefixtures("grpcio_alone")  # a message of unknown size is reserved for
def test_cancelled_while_sending() -> None:
    """A client that goes away before its message is whole leaves nothing behind."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            call = raw_stream(channel, "CrossEntropy")()
            ending = finished(call)
            await until_requests(channel, 1)
            call.cancel()
            await until_held(channel, (0, 0))
            await asyncio.gather(ending, return_exceptions=True)

            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 4

    asyncio.run(run())

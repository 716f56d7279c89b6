"""Streams that end before their answers: clients that go away, stall or do not read; a server that goes away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy as small
from tests.server.running import details as of_call
from tests.server.running import finished, held, serving, stub, until_bytes, until_held, until_requests
from tests.server.streaming.conversation import Talk, block, details, end, failures, messages, opened, reason
from tests.waiting import until_awaited

BOTH = ["input", "target"]
MIB = 1 << 20


def cross_entropy(rows: int = 6, classes: int = 4, **fields: Any) -> Any:
    target = tensor(np.arange(rows) % classes, "int64")
    return pb.CrossEntropyRequest(input=tensor(np.zeros((rows, classes))), target=target, **fields)


def test_an_end_without_End(numba: Backend) -> None:
    """A stream that ends early fails what has no End, answers what has, says OK, and leaves nothing behind."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            talk = Talk(channel)
            await talk.send(*list(messages(cross_entropy(), 1, BOTH, [0, 2, 6]))[:2])
            await talk.send(*list(messages(cross_entropy(), 2, BOTH, [0, 6]))[:1])
            await talk.send(*messages(cross_entropy(), 3, BOTH, [0, 6]))
            responses = await talk.rest()

            found = failures(responses)
            assert {number: reason(one) for number, one in found.items()} == dict.fromkeys((1, 2), "END_MISSING")
            assert {one.code for one in found.values()} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
            assert [one.result.evaluation_id for one in responses if one.HasField("result")] == [3]
            assert await talk.call.code() is grpc.StatusCode.OK
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_an_end_without_End_while_a_block_is_computed() -> None:
    """It fails at once: what is being computed is not waited for."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            talk = Talk(channel)
            await talk.send(*list(messages(cross_entropy(), 1, BOTH, [0, 2, 6]))[:3])
            await asyncio.to_thread(backend.until_entered)

            assert {number: reason(one) for number, one in failures(await talk.rest()).items()} == {1: "END_MISSING"}
            assert await talk.call.code() is grpc.StatusCode.OK
            backend.gate.set()

    asyncio.run(run())


def test_an_evaluation_that_has_ended_is_answered_after_the_last_message() -> None:
    """What has its End when the client has sent all is still computed and answered."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            talk = Talk(channel)
            await talk.send(*messages(cross_entropy(), 1, BOTH, [0, 2, 6]))
            await talk.send(pb.StreamRequest(open=opened(cross_entropy(), 2)))
            await talk.call.done_writing()
            await asyncio.to_thread(backend.until_entered)
            backend.gate.set()

            assert {(await talk.receive()).result.evaluation_id for _ in range(2)} == {1, 2}
            assert await talk.receive() is grpc.aio.EOF

    asyncio.run(run())


def test_a_block_after_the_End() -> None:
    """A block that follows the End while blocks before it are computed fails the evaluation."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            talk = Talk(channel)
            await talk.send(*messages(cross_entropy(), 1, BOTH, [0, 2, 6]))
            await talk.send(block(cross_entropy(), 1, BOTH, 0, 2))

            assert reason((await talk.receive()).failure) == "BLOCK_AFTER_END"
            backend.gate.set()
            assert await talk.rest() == []
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_cancellation() -> None:
    """A cancelled stream gives everything back; blocks that were not begun are never computed."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            talk = Talk(channel)
            await talk.send(*messages(cross_entropy(), 1, BOTH, [0, 1, 2, 3, 4, 5, 6]))
            await talk.send(pb.StreamRequest(opens=pb.Opens(opens=[opened(cross_entropy(5), n) for n in range(2, 9)])))
            await asyncio.to_thread(backend.until_entered)
            await until_bytes(channel, 7 * cross_entropy(5).ByteSize())
            talk.call.cancel()
            await until_held(channel, (0, 0))
            backend.gate.set()
            await stub(channel).CrossEntropy(small(7))

            assert [[job.layout.rows for job in jobs] for jobs in backend.runs] == [[1], [7]]

    asyncio.run(run())


def test_a_vanished_client() -> None:
    """A client whose connection closes leaves nothing behind either."""

    async def run() -> None:
        server = Server(Settings(listen=("127.0.0.1:0",)), EdgeBackend())
        (address,) = await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as other:
                talk = Talk(other)
                await talk.send(*list(messages(cross_entropy(), 1, ["input"], [0, 2, 6]))[:2])
                await until_requests(channel, 1)
            await until_held(channel, (0, 0))
        await server.stop(10.0, linger_s=0.0)

    asyncio.run(run())


def test_a_client_that_stalls(numba: Backend) -> None:
    """Evaluations whose blocks do not come fail with DEADLINE_EXCEEDED, their bytes come back, the stream lives on."""

    async def run() -> None:
        async with serving(numba, max_stream_idle_s=1000.0) as (server, channel):
            talk = Talk(channel)
            await talk.send(*list(messages(cross_entropy(), 1, ["input"], [0, 2, 6]))[:2])
            await until_requests(channel, 1)
            server.service.expire(time.monotonic() + 999.0)
            assert (await held(channel))[1] == 1
            server.service.expire(time.monotonic() + 1001.0)
            failed = await talk.receive()
            await talk.send(end(1), *messages(cross_entropy(), 1, BOTH, [0, 6]))
            (answered,) = await talk.rest()

            assert failed.failure.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
            assert reason(failed.failure) == "STREAM_STALLED"
            assert answered.result.cross_entropy.summary.count == 6
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_an_idle_stream_lives_on(numba: Backend) -> None:
    """A stream with nothing open may be silent for as long as it likes."""

    async def run() -> None:
        async with serving(numba) as (server, channel):
            talk = Talk(channel)
            await talk.send(*messages(cross_entropy(), 1, BOTH, [0, 6]))
            await talk.receive()
            await until_held(channel, (0, 0))
            server.service.expire(time.monotonic() + 1e6)
            await talk.send(*messages(cross_entropy(), 2, BOTH, [0, 6]))
            (answered,) = await talk.rest()

            assert answered.result.evaluation_id == 2

    asyncio.run(run())


def test_a_client_that_does_not_read() -> None:
    """A client that sends and never reads is read no further, and its stream ends with DEADLINE_EXCEEDED."""

    async def run() -> None:
        async with serving(EdgeBackend(1 << 30), max_stream_idle_s=1000.0) as (server, channel):
            request = pb.EntropyRequest(
                input=tensor(np.ones((1 << 18, 2))), reduction=loss_pb2.REDUCTION_NONE
            )  # 1 MiB of losses
            talk = Talk(channel)
            sent = 0

            async def send() -> None:
                nonlocal sent
                while True:
                    await talk.send(pb.StreamRequest(open=opened(request, sent)))
                    sent += 1

            async def at_a_stand() -> bool:
                before = sent
                for _ in range(50):
                    await held(channel)
                return before == sent >= 7  # or 8, where the front lets one in that waits

            sending = asyncio.ensure_future(send())
            await until_awaited(at_a_stand, lambda: f"7 messages go, and then no more; {sent} went")
            assert (await held(channel))[0] <= 64 * MIB
            server.service.expire(time.monotonic() + 1001.0)
            await until_held(channel, (0, 0))
            while (one := await _read(talk)) is not None:
                assert one.HasField("result")
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await sending

            # INTERNAL is the aio client's own word for a write that the call's end caught in the middle, CANCELLED that
            # of a reset in the middle of an answer.
            codes = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED
            assert await talk.call.code() in codes
            assert (await stub(channel).CrossEntropy(small())).summary.count == 4

    asyncio.run(run())


async def _read(talk: Talk) -> Any:
    """The next response; None where the call has ended, whichever way."""
    try:
        one = await talk.receive()
    except grpc.aio.AioRpcError:
        return None
    return None if one is grpc.aio.EOF else one


def test_going_away() -> None:
    """On drain open evaluations end, new ones fail with UNAVAILABLE and RetryInfo, then the stream ends likewise."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (server, channel):
            sequence = list(messages(cross_entropy(), 1, BOTH, [0, 2, 6]))
            talk, idle = Talk(channel), Talk(channel)
            await idle.send(end(7))
            await idle.receive()
            await talk.send(*sequence[:2])
            await asyncio.to_thread(backend.until_entered)
            draining = finished(server.service.drain(60.0))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await idle.receive()
            await talk.send(pb.StreamRequest(open=opened(cross_entropy(), 2)))
            refused = (await talk.receive()).failure
            assert not draining.done()
            await talk.send(*sequence[2:])
            answered = await talk.receive()
            with pytest.raises(grpc.aio.AioRpcError) as over:
                await talk.receive()

            assert refused.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert "RetryInfo" in details(refused)
            assert answered.result.cross_entropy.summary.count == 6
            for error in (ended.value, over.value):
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "RetryInfo" in of_call(error)
            assert await draining

    asyncio.run(run())


def test_the_calls_own_deadline() -> None:
    """A stream whose deadline passes ends with DEADLINE_EXCEEDED and gives everything back."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            talk = Talk(channel, timeout=0.3)
            await talk.send(*list(messages(cross_entropy(), 1, BOTH, [0, 2, 4, 6]))[:3])
            assert await talk.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until_held(channel, (0, 0))
            backend.gate.set()

    asyncio.run(run())

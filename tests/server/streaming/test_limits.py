"""How much a stream may hold, and how large its answers may be."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import numpy as np

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.running import another, held, serving, serving_at, settled, until_held
from tests.server.streaming.conversation import Talk, details, failures, messages, opened, reason

BOTH = ["input", "target"]
MIB = 1 << 20


def cross_entropy(rows: int = 6, classes: int = 4, **fields: Any) -> Any:
    target = tensor(np.arange(rows) % classes, "int64")
    return pb.CrossEntropyRequest(input=tensor(np.zeros((rows, classes))), target=target, **fields)


def test_no_more_is_read_than_is_computed() -> None:
    """While nothing is computed a stream is read up to its window, and not on; nobody is blamed for it."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (server, channel):
            backend.gate.clear()
            request = cross_entropy(64, 1 << 16)
            cuts = list(range(0, 65, 8))  # 2 MiB each
            other = list(messages(cross_entropy(), 2, BOTH, [0, 6]))
            talk = Talk(channel)
            sending = asyncio.ensure_future(talk.send(other[0], *messages(request, 1, BOTH, cuts), *other[1:]))
            await asyncio.to_thread(backend.until_entered)
            now = await settled(channel, 20)
            assert 8 * MIB <= now[0] < 11 * MIB
            assert now[1] == 1
            server.service.expire(time.monotonic() + 1e6)  # evaluation 2 does not wait for its client
            backend.gate.set()
            await sending
            answers = [one.result for one in await talk.rest()]

            assert {one.evaluation_id: one.cross_entropy.summary.count for one in answers} == {1: 64, 2: 6}

    asyncio.run(run())


def test_streams_wait_for_room() -> None:
    """Streams that together would hold more than their share wait for each other, and are all answered."""

    async def run() -> None:
        backend = EdgeBackend()
        limits = {"max_message_bytes": 4 * MIB, "max_inflight_bytes": 8 * MIB}
        async with serving(backend, **limits) as (_, channel):
            backend.gate.clear()
            request = cross_entropy(8, 1 << 16)  # 2 MiB
            talks = [Talk(channel) for _ in range(6)]
            sending = [asyncio.ensure_future(talk.send(*messages(request, 1, BOTH, [0, 4, 8]))) for talk in talks]
            await asyncio.to_thread(backend.until_entered)
            most = 0
            for _ in range(200):
                most = max(most, (await held(channel))[0])
            backend.gate.set()
            await asyncio.gather(*sending)
            answers = await asyncio.gather(*(talk.rest() for talk in talks))

            assert most <= 6.1 * MIB
            assert [answer[0].result.cross_entropy.summary.count for answer in answers] == [8] * 6
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_opens_that_hold_too_much() -> None:
    """Evaluations whose Opens would hold more than streams may leave are refused with RetryInfo, and alone."""

    async def run() -> None:
        limits = {"max_message_bytes": MIB, "max_inflight_bytes": 8 * MIB}
        async with serving(EdgeBackend(), **limits) as (_, channel):
            request = cross_entropy(100_000, 2)  # 0.8 MiB of targets in the Open
            talk = Talk(channel)
            for n in range(6):
                await talk.send(pb.StreamRequest(open=opened(request, n, ["input"])))
            refused = [(await talk.receive()).failure for _ in range(3)]

            assert {reason(one) for one in refused} == {"OVERLOADED"}
            assert "RetryInfo" in details(refused[0])
            assert (await held(channel))[1] == 1
            talk.call.cancel()
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_open_evaluations_of_one_connection_leave_room_for_another() -> None:
    """However many it opens, and never ends: they are refused from some point on, and the other's are not."""

    async def run() -> None:
        limits = {"max_message_bytes": MIB, "max_inflight_bytes": 8 * MIB}
        async with serving_at(EdgeBackend(), **limits) as (_, channel, address):
            async with another(address) as hog:
                hoarding = Talk(hog)
                for n in range(1000):
                    await hoarding.send(pb.StreamRequest(open=opened(cross_entropy(), n, ["input"])))
                refused = (await hoarding.receive()).failure
                talk = Talk(channel)
                await talk.send(*messages(cross_entropy(), 1, BOTH, [0, 6]))

                assert reason(refused) == "OVERLOADED"
                assert (await talk.receive()).result.evaluation_id == 1
                assert (await held(channel))[0] <= 4 * MIB
                hoarding.call.cancel()
            await talk.call.done_writing()
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_answers_larger_than_the_client_takes(numba: Backend) -> None:
    """lossd-max-response-bytes holds for each message: a block and a complete evaluation beyond it fail alone."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = cross_entropy(reduction=loss_pb2.REDUCTION_SUM, gradients=[loss_pb2.GRADIENT_INPUT])
            large = pb.SelfInformationRequest(input=tensor(np.ones((1000,))))
            talk = Talk(channel, metadata=[("lossd-max-response-bytes", "700")])
            await talk.send(*messages(request, 1, BOTH, [0, 6]))
            await talk.send(pb.StreamRequest(opens=pb.Opens(opens=[opened(large, 2)])))
            await talk.send(*messages(large, 3, ["input"], [0, 1000]))
            responses = await talk.rest()

            found = failures(responses)
            assert {n: reason(one) for n, one in found.items()} == dict.fromkeys((2, 3), "RESPONSE_TOO_LARGE")
            assert found[2].code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert [one.result.evaluation_id for one in responses if one.HasField("result")] == [1]

    asyncio.run(run())


def test_results_are_spread_over_messages(numba: Backend) -> None:
    """Results that do not fit one message come in several, each within the client's bound."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            opens = pb.Opens(opens=[opened(cross_entropy(), n) for n in range(30)])
            talk = Talk(channel, metadata=[("lossd-max-response-bytes", "500")])
            await talk.send(pb.StreamRequest(opens=opens))
            responses = await talk.rest()

            assert len(responses) > 1
            assert max(one.ByteSize() for one in responses) <= 500
            assert [r.evaluation_id for one in responses for r in one.results.results] == list(range(30))

    asyncio.run(run())

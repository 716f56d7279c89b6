"""Streams whose clients do not read, or do not finish a message, hold what they are charged and up to their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc.aio
import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.front.http2 import wire
from tests.server.messages import cross_entropy as small
from tests.server.running import another, held, serving_at, settled, until_bytes, until_held
from tests.server.streaming.conversation import Talk, messages, opened
from tests.waiting import until_awaited

MIB = 1 << 20
LIMITS: dict[str, Any] = {"max_message_bytes": 4 * MIB, "max_inflight_bytes": 16 * MIB, "max_stream_idle_s": 1000.0}
MANY = 6
# An answer of 2 MiB.
LARGE = pb.EntropyRequest(input=tensor(np.ones((1 << 18, 2))), reduction=loss_pb2.REDUCTION_NONE)
LATER_S = 10.0  # more than a message of this size has while others wait, and less than without them


async def write_all(talk: Talk, of: Iterator[Any]) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the stream is ended meanwhile
        await talk.send(*of)


async def answered(talk: Talk, request: Any) -> bool:
    await talk.send(pb.StreamRequest(open=opened(request, 1)))
    return bool((await talk.receive()).result.evaluation_id == 1)


def test_a_small_stream_is_answered_beside_streams_that_are_not_read() -> None:
    """However many of them wait for memory before it, and with whatever they hold."""

    async def run() -> None:
        async with serving_at(EdgeBackend(1 << 30), **LIMITS) as (_, channel, address):
            hogs = [another(address) for _ in range(MANY)]
            requests = [(pb.StreamRequest(open=opened(LARGE, number)) for number in range(20)) for _ in hogs]
            writing = [asyncio.ensure_future(write_all(Talk(hog), of)) for hog, of in zip(hogs, requests, strict=True)]
            now = await settled(channel, 20)

            assert 8 * MIB <= now[0] <= 16 * MIB
            assert await answered(Talk(channel), small())
            for one in hogs:
                await one.close()
            await asyncio.gather(*writing, return_exceptions=True)
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_a_stream_that_is_not_read_is_given_up_where_others_wait() -> None:
    """Those that hold more than their connection's share, long before their idle time: the others' turn comes.

    On lossd's own front: gRPC's core does not let go of a call whose client does not read.
    """

    async def run() -> None:
        async with serving_at(EdgeBackend(1 << 30), front="http2", **LIMITS) as (server, channel, address):
            async with another(address) as hog:
                streams = [Talk(hog) for _ in range(4)]
                requests = [(pb.StreamRequest(open=opened(LARGE, number)) for number in range(20)) for _ in streams]
                writing = [
                    asyncio.ensure_future(write_all(talk, of)) for talk, of in zip(streams, requests, strict=True)
                ]
                await until_bytes(channel, 8 * MIB)
                await settled(channel, 20)
                server.service.expire(time.monotonic() + LATER_S)  # the hog's own streams wait, but nobody else
                assert (await settled(channel, 20))[0] >= 8 * MIB
                waits = asyncio.ensure_future(answered(Talk(channel), LARGE))
                while not waits.done():
                    server.service.expire(time.monotonic() + LATER_S)
                    await held(channel)

                assert await waits
                for one in writing:
                    one.cancel()
                await asyncio.wait(writing)
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_messages_that_never_become_complete() -> None:
    """What is let in of them is charged, and no more: others are answered, and it ends when its time is over.

    On lossd's own front: gRPC's core lets a message in before anybody is asked.
    """

    async def run() -> None:
        async with serving_at(EdgeBackend(), front="http2", **LIMITS) as (server, channel, address):
            host, _, port = address.rpartition(":")
            begun = wire.message(bytes(4 * MIB))[: 1 << 15]
            writers = []
            for _ in range(30):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(wire.HANDSHAKE)
                writer.write(wire.headers(1, wire.request(b"/lossd.v1.LossService/Stream"), wire.END_HEADERS))
                writer.write(wire.data(1, begun[: 1 << 14]) + wire.data(1, begun[1 << 14 :]))
                writers.append(writer)
            await until_bytes(channel, 8 * MIB)

            assert (await settled(channel, 20))[0] <= 12 * MIB
            assert await answered(Talk(channel), small())

            async def given_up() -> bool:
                server.service.expire(time.monotonic() + 1001.0)
                return await held(channel) == (0, 0)

            await until_awaited(given_up, "the server holds nothing of messages that never come")
            for writer in writers:
                writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("window", [0, 1000])
def test_a_client_that_writes_all_before_it_reads_hears_of_the_end(window: int) -> None:
    """By a status where no answer has begun to leave, by a reset where one has; and all of it is given back.

    On lossd's own front: gRPC's core neither takes a status beside a message nor resets a stream of its server.
    """

    async def run() -> None:
        async with serving_at(EdgeBackend(1 << 30), front="http2", **LIMITS) as (server, channel, address):
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(wire.PREFACE + wire.settings({wire.INITIAL_WINDOW: window}) + wire.SETTINGS_ACK)
            path = b"/lossd.v1.LossService/Stream"
            writer.write(wire.headers(1, wire.request(path), wire.END_HEADERS))
            request = pb.EntropyRequest(input=tensor(np.ones((2000, 2))), reduction=loss_pb2.REDUCTION_NONE)
            for one in messages(request, 1, ["input"], [0, 1000, 2000]):
                writer.write(wire.data(1, wire.message(one.SerializeToString())))
            await until_bytes(channel, 8000)
            server.service.expire(time.monotonic() + 1001.0)
            await until_held(channel, (0, 0))
            writer.write(wire.ping())
            received = b""
            while wire.ping(b"question", wire.ACK) not in received:
                received += await reader.read(1 << 16)
            answer = wire.answers(wire.parse(received))[1]
            writer.close()
            await writer.wait_closed()

            assert (answer.ended, answer.reset) == (
                (True, None) if window == 0 else (False, wire.CODES.index("CANCEL"))
            )

    asyncio.run(run())

"""Places for streams are few: one that is silent for long makes room for another that needs it, and no other does."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from lossd.v1 import service_pb2 as pb
from lossd_server.streaming import stream
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy as small
from tests.server.running import another, details, serving, serving_at, until_requests
from tests.server.streaming.conversation import Talk, opened

MOST = 3


@pytest.fixture(autouse=True)
def _few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", MOST)


async def answered(talk: Talk, number: int) -> bool:
    await talk.send(pb.StreamRequest(open=opened(small(), number)))
    return bool((await talk.receive()).result.evaluation_id == number)


def test_the_longest_silent_stream_makes_room() -> None:
    """With UNAVAILABLE and its reason; those that are used since go on."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_stream_idle_s=1e-9) as (_, channel):
            talks = [Talk(channel) for _ in range(MOST)]
            for talk in talks:
                assert await answered(talk, 1)
            assert await answered(talks[0], 2)

            assert await answered(Talk(channel), 1)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await talks[1].receive()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert details(caught.value)["ErrorInfo"].reason == "STREAM_IDLE"
            assert await answered(talks[0], 3)

    asyncio.run(run())


def test_streams_that_were_just_used_keep_their_places() -> None:
    """One more is refused, to come again."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_stream_idle_s=1000.0) as (_, channel):
            talks = [Talk(channel) for _ in range(MOST)]
            for talk in talks:
                assert await answered(talk, 1)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Talk(channel).receive()

            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(caught.value)["ErrorInfo"].reason == "OVERLOADED"
            for talk in talks:
                assert await answered(talk, 2)

    asyncio.run(run())


def test_streams_with_something_open_keep_their_places() -> None:
    """However long it is that their clients said nothing."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, max_stream_idle_s=1e-9) as (_, channel):
            backend.gate.clear()
            talks = [Talk(channel) for _ in range(MOST)]
            for talk in talks:
                await talk.send(pb.StreamRequest(open=opened(small(), 1)))
            await until_requests(channel, MOST)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Talk(channel).receive()
            backend.gate.set()

            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for talk in talks:
                assert (await talk.receive()).result.evaluation_id == 1

    asyncio.run(run())


def test_one_connection_does_not_keep_the_places_from_others() -> None:
    """A silent stream of a connection with more places makes room for another's, however short its silence."""

    async def run() -> None:
        async with serving_at(EdgeBackend(), max_stream_idle_s=1000.0) as (_, channel, address):
            talks = [Talk(channel) for _ in range(MOST)]
            for talk in talks:
                assert await answered(talk, 1)
            async with another(address) as other:
                assert await answered(Talk(other), 1)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await talks[0].receive()

                assert details(caught.value)["ErrorInfo"].reason == "STREAM_IDLE"
                assert await answered(talks[1], 2)

    asyncio.run(run())

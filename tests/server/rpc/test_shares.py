"""Shares of connections: what one does with its calls denies no other an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from lossd.v1 import loss_pb2, service_pb2, tensor_pb2
from tests.server.edge import EdgeBackend
from tests.server.front.http2 import wire
from tests.server.front.http2.listening import RawClient
from tests.server.messages import cross_entropy
from tests.server.running import finished, held, raw, serving_at
from tests.waiting import until_awaited

MESSAGE = 1 << 20
BUDGET = 4 * MESSAGE
CALLS = 8  # more than the budget holds of the largest message
PATH = b"/lossd.v1.LossService/CrossEntropy"
ANNOUNCED = [(b"lossd-request-bytes", b"%d" % MESSAGE)]
# What a client sends of each of its calls before it says nothing more.
STALLED = {
    "headers alone": (wire.request(PATH), b""),
    "a size in metadata": (wire.request(PATH, ANNOUNCED), b""),
    "a message's first bytes": (wire.request(PATH), MESSAGE.to_bytes(5, "big")),
    "all but a message's end": (wire.request(PATH), MESSAGE.to_bytes(5, "big") + bytes(30_000)),
}


@asynccontextmanager
async def attacked(sent: bytes, **settings: Any) -> AsyncIterator[tuple[str, RawClient]]:
    """A server whose times for calls are far away, and a client that has sent this."""
    limits = {"max_message_bytes": MESSAGE, "max_inflight_bytes": BUDGET, "max_body_s": 1e6, **settings}
    async with serving_at(EdgeBackend(), **limits) as (server, _, address):
        client = await RawClient.connect(address)
        await client.send(wire.PREFACE + wire.settings({wire.INITIAL_WINDOW: 0}) + wire.SETTINGS_ACK)
        await client.send(sent)
        try:
            yield address, client
        finally:
            client.close()
            server.service.expire(2e6)


async def answered(address: str, announces: bool) -> bool:
    """Whether a good small request on a connection of its own is; where it is told to come back, it will."""
    body = cross_entropy().SerializeToString()
    metadata = (("lossd-request-bytes", str(len(body))),) if announces else ()
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await raw(channel, "CrossEntropy")(body, metadata=metadata, timeout=30.0)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False
    return service_pb2.CrossEntropyResponse.FromString(answer).summary.count == 4


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("kind", STALLED)
def test_calls_that_stall(kind: str, announces: bool) -> None:
    """Calls of one connection that never send their message hold as much as there is until another needs it."""

    async def run() -> None:
        block, begun = STALLED[kind]
        sent = b"".join(
            wire.headers(stream_id, block, wire.END_HEADERS) + (wire.data(stream_id, begun) if begun else b"")
            for stream_id in range(1, 2 * CALLS, 2)
        )
        async with attacked(sent) as (address, _):
            await until_awaited(lambda: answered(address, announces), "a small request of another is answered")

    asyncio.run(run())


def test_many_calls_that_stall() -> None:
    """The same of their number, where their messages are small."""

    async def run() -> None:
        block, begun = wire.request(PATH), (100).to_bytes(5, "big")
        sent = b"".join(
            wire.headers(stream_id, block, wire.END_HEADERS) + wire.data(stream_id, begun)
            for stream_id in range(1, 2 * CALLS, 2)
        )
        async with attacked(sent, max_inflight_requests=CALLS // 2) as (address, _):
            await until_awaited(lambda: answered(address, True), "a small request of another is answered")

    asyncio.run(run())


def test_answers_that_are_not_read() -> None:
    """Answers of one connection that it does not take make room for another's calls. Core holds them for ever."""

    async def run() -> None:
        # Gradients of 8-bit floats are float32: small requests with large answers.
        request = service_pb2.CrossEntropyRequest(
            input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT8_E4M3FN, shape=[100, 400], data=bytes(40_000)),
            target=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[100], data=bytes(800)),
            gradients=[loss_pb2.GRADIENT_INPUT],
        )
        body = request.SerializeToString()
        async with attacked(b"", front="http2") as (address, client):
            async with grpc.aio.insecure_channel(address) as channel:
                stream_id = 1
                while (await held(channel))[0] < BUDGET - MESSAGE:
                    await client.send(wire.call(stream_id, body, path=PATH))
                    await until_awaited(partial(_begins, client, stream_id), "the call is answered")
                    stream_id += 2
                large = cross_entropy(1000, 200).SerializeToString()
                answers = [finished(raw(channel, "CrossEntropy")(large, timeout=30.0)) for _ in range(2)]
                for one in answers:
                    assert service_pb2.CrossEntropyResponse.FromString(await one).summary.count == 1000
            while not any(one.kind == wire.RST_STREAM for one in client.frames):
                await client.turn()

    asyncio.run(run())


async def _begins(client: RawClient, stream_id: int) -> bool:
    """Whether the head of its answer is here."""
    await client.turn()
    return any(one.kind == wire.HEADERS and one.stream_id == stream_id for one in client.frames)

"""Both fronts answer the same request with the same bytes: the one of gRPC's library is the other's oracle."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.config.settings import FRONTS
from tests.losses.messages import tensor
from tests.server.messages import cross_entropy
from tests.server.running import serving, stub
from tests.server.streaming.conversation import converse, messages, opened
from tests.server.streaming.hostile import requests

LARGE = pb.CrossEntropyRequest(
    input=tensor(np.random.default_rng(5).normal(size=(300, 900)), "float32"),
    target=tensor(np.arange(300) % 900, "int64"),
    gradients=[loss_pb2.GRADIENT_INPUT],
)
NAMED = (("x-request-id", "the-same"),)  # else each refusal has an id of its own
WRONG = cross_entropy()
WRONG.target.data = b"\x63" + bytes(31)
CALLS: list[tuple[str, bytes]] = [
    *((type(one).__name__.removesuffix("Request"), one.SerializeToString()) for one, _ in requests()),
    ("CrossEntropy", LARGE.SerializeToString()),
    ("CrossEntropy", WRONG.SerializeToString()),
    ("CrossEntropy", pb.CrossEntropyRequest(label_smoothing=2.0).SerializeToString()),
    ("BCE", b"\xff"),
    ("Entropy", b""),
    ("Guess", b""),
]


def untimed(answer: Any) -> bytes:
    answer.ClearField("timing")
    return bytes(answer.SerializeToString(deterministic=True))


def unary(channel: grpc.aio.Channel, path: str) -> Any:
    """From bytes to bytes."""
    return channel.unary_unary(path)


async def said(channel: grpc.aio.Channel, rpc: str, body: bytes) -> tuple[Any, ...]:
    """All that a caller is told, but for the timing."""
    call = unary(channel, f"/lossd.v1.LossService/{rpc}")(body, metadata=NAMED)
    try:
        answered = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details(), tuple(error.trailing_metadata() or ())
    answer = getattr(pb, f"{rpc}Response").FromString(answered)
    return await call.code(), untimed(answer), tuple(await call.trailing_metadata())


@pytest.mark.parametrize("index", range(len(CALLS)), ids=[f"{rpc} {len(body)}" for rpc, body in CALLS])
def test_unary(numba: Backend, index: int) -> None:
    """Answers, statuses, details and trailers; also when the request is met again."""
    rpc, body = CALLS[index]

    async def run() -> None:
        found = []
        for front in FRONTS:
            async with serving(numba, front=front) as (_, channel):
                found += [await said(channel, rpc, body) for _ in range(3)]

        assert found == found[:1] * 3 * len(FRONTS)

    asyncio.run(run())


def test_streams(numba: Backend) -> None:
    """Streams of blocks and of complete evaluations, right ones and refused ones."""
    request, streamed = requests()[0]
    whole = pb.StreamRequest(opens=pb.Opens(opens=[opened(one, n) for n, (one, _) in enumerate(requests())]))
    bad = pb.StreamRequest(open=opened(WRONG, 77))
    sent = [*messages(request, 99, streamed, [0, 2, 6]), whole, bad, *messages(LARGE, 98, ["input"], [0, 128, 300])]

    async def run() -> None:
        found = []
        for front in FRONTS:
            async with serving(numba, front=front) as (_, channel):
                responses = await converse(channel, sent, metadata=NAMED)
                for one in responses:
                    for result in [one.result] if one.HasField("result") else one.results.results:
                        kind = result.WhichOneof("response")
                        if kind:
                            getattr(result, kind).ClearField("timing")
                found.append(sorted(one.SerializeToString() for one in responses))

        assert found[0] == found[1]
        assert len(found[0]) > 5

    asyncio.run(run())


def test_server_info_and_health(numba: Backend) -> None:
    """Beside the losses too."""

    async def run() -> None:
        found = []
        for front in FRONTS:
            async with serving(numba, front=front) as (_, channel):
                info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
                for field in ("instance_id", "statistics", "shared_memory_socket", "uptime_s"):
                    if field in info.DESCRIPTOR.fields_by_name:
                        info.ClearField(field)
                health = await unary(channel, "/grpc.health.v1.Health/Check")(b"")
                found.append((info.SerializeToString(deterministic=True), health))

        assert found[0] == found[1]

    asyncio.run(run())

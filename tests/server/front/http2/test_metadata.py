"""Metadata beyond the bounds, from gRPC's own client."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from lossd.v1 import service_pb2 as pb
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import details, refused, serving, stub
from tests.server.streaming.conversation import Talk, opened


@pytest.mark.parametrize("size", [9_000, 20_000])
def test_too_much_metadata(size: int) -> None:
    """The call alone is refused, and told why; a stream beside it goes on."""

    async def run() -> None:
        async with serving(EdgeBackend(), front="http2") as (_, channel):
            talk = Talk(channel)
            await talk.send(pb.StreamRequest(open=opened(cross_entropy(), 1)))
            assert (await talk.receive()).result.evaluation_id == 1
            error = await refused(stub(channel).CrossEntropy(cross_entropy(), metadata=[("x-much", "a" * size)]))

            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(error)["ErrorInfo"].reason == "METADATA_TOO_LARGE"
            await talk.send(pb.StreamRequest(open=opened(cross_entropy(), 2)))
            assert (await talk.receive()).result.evaluation_id == 2

    asyncio.run(run())

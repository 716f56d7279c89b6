"""ModelInfer on a real socket: charged, refused and timed as the losses' own calls are."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.inference.protocol import ModelInferResponse
from tests.losses.messages import zeros
from tests.losses.requests import cross_entropy
from tests.server.edge import EdgeBackend
from tests.server.inference.inferring import MODEL_INFER, inferred
from tests.server.running import details, finished, held, refused, serving, settled, stub, until_held


def infer(channel: grpc.aio.Channel, message: Any, metadata: Any = ()) -> Any:
    return channel.unary_unary(MODEL_INFER)(message.SerializeToString(), metadata=metadata)


def large(gradient: bool) -> Any:
    """900 rows of 100 classes."""
    request = cross_entropy(input=zeros(900, 100), target=zeros(900, dtype=pb.DATA_TYPE_INT64))
    return inferred(request, outputs=["loss", *(["input_gradient"] if gradient else [])])


@pytest.mark.parametrize("first", ["own", "inferred"])
def test_a_full_server_refuses_with_a_time_to_retry(first: str) -> None:
    """Both services share one budget: RESOURCE_EXHAUSTED with RetryInfo, whichever holds the place."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, max_inflight_requests=1, max_admission_wait_s=0.05) as (_, channel):
            backend.gate.clear()
            own = first == "own"
            waiting = finished(
                stub(channel).CrossEntropy(cross_entropy()) if own else infer(channel, inferred(cross_entropy()))
            )
            await asyncio.to_thread(backend.until_entered)
            error = await refused(infer(channel, inferred(cross_entropy())))
            backend.gate.set()
            await waiting

            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(error)["ErrorInfo"].reason == "OVERLOADED"
            assert "RetryInfo" in details(error)
            assert await settled(channel, 3) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("gradient", [False, True])
def test_a_request_is_charged_with_its_bytes_and_a_large_answers(gradient: bool) -> None:
    """While it is computed the server holds the message and, with a gradient, an answer as large."""
    message = large(gradient)

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            waiting = finished(infer(channel, message))
            await asyncio.to_thread(backend.until_entered)
            size, requests = await held(channel)
            backend.gate.set()
            answer = await waiting

            expected = message.ByteSize() + (len(answer) if gradient else 0)
            assert (size, requests) == (expected, 1)
            assert len(ModelInferResponse.FromString(answer).outputs) == 1 + gradient
            await until_held(channel, (0, 0))

    asyncio.run(run())


def test_a_size_that_is_announced_is_held_to() -> None:
    """`lossd-request-bytes`, which Triton's client does not send, means here what it means everywhere."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            message = inferred(cross_entropy())
            size = message.ByteSize()
            answer = await infer(channel, message, (("lossd-request-bytes", str(size)),))
            error = await refused(infer(channel, message, (("lossd-request-bytes", str(size - 1)),)))

            assert len(ModelInferResponse.FromString(answer).outputs) == 4
            assert details(error)["ErrorInfo"].reason == "REQUEST_BYTES_MISMATCH"

    asyncio.run(run())


def test_a_call_whose_client_leaves_leaves_nothing() -> None:
    """Cancelled while it is computed: nothing stays charged."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            call = infer(channel, large(True))
            waiting = finished(call)
            await asyncio.to_thread(backend.until_entered)
            call.cancel()
            await asyncio.wait([waiting])
            backend.gate.set()

            await until_held(channel, (0, 0))

    asyncio.run(run())

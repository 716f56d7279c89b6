"""ModelStreamInfer: answers in order, failures alone, and the bounds that every stream has."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import numpy as np
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd_server.backends import Backend
from lossd_server.inference.protocol import ModelStreamInferResponse
from lossd_server.server import Server
from tests.losses.messages import tensor
from tests.losses.requests import cross_entropy
from tests.server.edge import EdgeBackend
from tests.server.inference.inferring import (
    MODEL_INFER,
    MODEL_STREAM_INFER,
    Handle,
    inferred,
    response_of,
    streamed,
    unpacked,
    with_server,
)
from tests.server.running import held, serving, settled

RNG = np.random.default_rng(5)


def request(rows: int = 8, classes: int = 16, **fields: Any) -> Any:
    """Of numbers of its own."""
    return cross_entropy(
        input=tensor(RNG.normal(size=(rows, classes))), target=tensor(RNG.integers(0, classes, rows), "int64"), **fields
    )


def test_the_same_as_unary_in_order(numba: Backend) -> None:
    """Small and large requests take turns; the answers have the bits of ModelInfer, in the order of the requests."""
    shapes = [(8, 16), (900, 1000), (3, 5), (8, 16), (500, 600)] * 3
    messages = [
        inferred(request(*shape, gradients=[loss.GRADIENT_INPUT]), str(n)).SerializeToString()
        for n, shape in enumerate(shapes)
    ]

    async def body(handle: Handle, server: Server) -> None:
        answers = [ModelStreamInferResponse.FromString(one) for one in await streamed(server.routes, messages)]

        assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(len(messages))]
        for message, answer in zip(messages, answers, strict=True):
            assert not answer.error_message
            assert unpacked(answer.infer_response) == unpacked(response_of(await handle(MODEL_INFER, message)))

    with_server(numba, body)


def test_a_failure_is_one_messages_alone(numba: Backend) -> None:
    """Code, reason and field stand before the sentence, and are parameters of a response with the request's id."""
    bad = [
        inferred(request(label_smoothing=7.0), "smooth").SerializeToString(),
        inferred(cross_entropy(target=tensor([99] * 8, "int64")), "class").SerializeToString(),
        b"\x0a\xff",
    ]
    good = inferred(request(), "good").SerializeToString()
    messages = [good, bad[0], good, bad[1], bad[2], good]

    async def body(_: Handle, server: Server) -> None:
        for _repeat in range(3):  # from the third on they are recalled
            found = [ModelStreamInferResponse.FromString(one) for one in await streamed(server.routes, messages)]
            smooth, wrong_class, none = found[1], found[3], found[4]

            assert [one.error_message for one in (found[0], found[2], found[5])] == [""] * 3
            assert smooth.error_message == (
                "INVALID_ARGUMENT OPTION_OUT_OF_RANGE label_smoothing: label_smoothing = 7.0 is outside [0, 1]"
            )
            assert wrong_class.error_message.startswith("INVALID_ARGUMENT CLASS_OUT_OF_RANGE target: target[0] = 99 is")
            assert none.error_message.startswith("INVALID_ARGUMENT MALFORMED_MESSAGE: the message of 2 bytes is no inf")
            assert [one.infer_response.id for one in (smooth, wrong_class, none)] == ["smooth", "class", ""]
            said = smooth.infer_response.parameters
            assert {name: said[name].string_param for name in said} == {
                "code": "INVALID_ARGUMENT",
                "reason": "OPTION_OUT_OF_RANGE",
                "field": "label_smoothing",
            }

    with_server(numba, body)


def test_the_last_answer_says_so_where_it_is_asked_to(numba: Backend) -> None:
    """Triton's clients may ask for that, since their models may answer a request many times."""
    message = inferred(request())
    message.parameters["triton_enable_empty_final_response"].bool_param = True

    async def body(_: Handle, server: Server) -> None:
        for one in await streamed(server.routes, [message.SerializeToString()] * 4):
            assert (
                ModelStreamInferResponse.FromString(one).infer_response.parameters["triton_final_response"].bool_param
            )

    with_server(numba, body)


def test_nothing_is_left_of_a_stream_that_ends_early() -> None:
    """A client that cancels while its requests are computed leaves no byte charged."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (_, channel):
            backend.gate.clear()
            call: Any = channel.stream_stream(MODEL_STREAM_INFER)()
            for _ in range(3):
                await call.write(inferred(request(600, 100)).SerializeToString())
            await asyncio.to_thread(backend.until_entered)
            assert (await held(channel))[0] > 0
            call.cancel()
            backend.gate.set()

            assert await settled(channel, 3) == (0, 0)

    asyncio.run(run())


def test_a_stopping_server_answers_what_it_accepted() -> None:
    """Requests under way are answered; the stream ends with UNAVAILABLE."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend) as (server, channel):
            backend.gate.clear()
            call: Any = channel.stream_stream(MODEL_STREAM_INFER)()
            await call.write(inferred(request()).SerializeToString())
            await asyncio.to_thread(backend.until_entered)
            draining = asyncio.ensure_future(server.service.drain(60.0))
            backend.gate.set()
            answer = ModelStreamInferResponse.FromString(await call.read())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()

            assert await draining
            assert len(answer.infer_response.outputs) == 4
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


def test_a_message_over_the_limit_ends_the_stream() -> None:
    """It is not let in, so what follows cannot be told from it: as of every stream."""

    async def run() -> None:
        async with serving(EdgeBackend(), max_message_bytes=1 << 20) as (_, channel):
            call: Any = channel.stream_stream(MODEL_STREAM_INFER)()
            await call.write(bytes((1 << 20) + 9))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()

            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await settled(channel, 3) == (0, 0)

    asyncio.run(run())

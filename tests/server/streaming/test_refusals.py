"""What is wrong with one evaluation of a stream fails that evaluation, and costs the others nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from lossd.v1 import loss_pb2, tensor_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from tests.losses.messages import tensor
from tests.server.edge import POISON, SECRET, EdgeBackend
from tests.server.running import details as of_call
from tests.server.running import held, serving, stub
from tests.server.streaming.conversation import Talk, block, converse, details, end, failures, messages, opened, reason

N, C = 6, 4
LOGITS = np.random.default_rng(2).normal(size=(N, C))
BOTH = ["input", "target"]


def cross_entropy(**fields: Any) -> Any:
    asked = {"input": tensor(LOGITS), "target": tensor(np.arange(N) % C, "int64")} | fields
    return pb.CrossEntropyRequest(**asked)


def bce(items: int = 9000, **fields: Any) -> Any:
    half = tensor(np.full((items,), 0.5))
    return pb.BCERequest(**{"input": half, "target": half} | fields)


def blocks(request: Any, *cuts: tuple[int, int], streamed: list[str] = BOTH) -> list[Any]:
    """Open and blocks, without End."""
    return [
        pb.StreamRequest(open=opened(request, 1, streamed)),
        *(block(request, 1, streamed, first, stop) for first, stop in cuts),
    ]


def changed(message: Any, change: Callable[[Any], None]) -> Any:
    change(message)
    return message


def first_item(message: Any, first: int) -> Any:
    message.block.first_item = first
    return message


def without(message: Any, field: str) -> Any:
    message.block.ClearField(field)
    return message


def open_only(request: Any, *streamed: str) -> list[Any]:
    return [pb.StreamRequest(open=opened(request, 1, streamed))]


GRADIENT: dict[str, Any] = {"gradients": [loss_pb2.GRADIENT_INPUT]}
# reason: what is sent.
REFUSED: dict[str, list[Any]] = {
    "TOO_FEW_ITEMS": [*blocks(cross_entropy(), (0, 2)), end(1)],
    "TOO_MANY_ITEMS": [
        *blocks(cross_entropy(), (0, 4)),
        first_item(block(cross_entropy(), 1, BOTH, 0, 4), 4),
    ],
    "BLOCK_OUT_OF_ORDER": blocks(cross_entropy(), (0, 2), (4, 6)),
    "BLOCK_OUT_OF_ORDER again": blocks(cross_entropy(), (0, 2), (0, 2)),
    "BLOCK_OUT_OF_ORDER below 0": [
        *blocks(cross_entropy()),
        first_item(block(cross_entropy(), 1, BOTH, 0, 2), -2),
    ],
    "BLOCK_EMPTY": blocks(cross_entropy(), (0, 0)),
    "BLOCK_NOT_A_MULTIPLE": blocks(bce(), (0, 4000)),
    "MISSING_FIELD": [*blocks(cross_entropy()), without(block(cross_entropy(), 1, BOTH, 0, 2), "target")],
    "NOT_STREAMED": [*blocks(cross_entropy(), streamed=["input"]), block(cross_entropy(), 1, BOTH, 0, 2)],
    "BLOCK_MISMATCH items": [
        *blocks(cross_entropy()),
        changed(
            block(cross_entropy(), 1, BOTH, 0, 2),
            lambda m: m.block.target.CopyFrom(tensor(np.zeros(3), "int64")),
        ),
    ],
    "BLOCK_MISMATCH dtype": [
        *blocks(cross_entropy()),
        changed(
            block(cross_entropy(), 1, BOTH, 0, 2),
            lambda m: m.block.input.CopyFrom(tensor(LOGITS[:2], "float64")),
        ),
    ],
    "BLOCK_MISMATCH shape": [
        *blocks(cross_entropy()),
        changed(block(cross_entropy(), 1, BOTH, 0, 2), lambda m: m.block.input.CopyFrom(tensor(LOGITS[:2, :3]))),
    ],
    "BLOCK_MISMATCH scalar": [
        *blocks(cross_entropy()),
        changed(block(cross_entropy(), 1, BOTH, 0, 2), lambda m: m.block.input.CopyFrom(tensor(1.0))),
    ],
    "LENGTH_MISMATCH": [
        *blocks(cross_entropy()),
        changed(
            block(cross_entropy(), 1, BOTH, 0, 2),
            lambda m: m.block.input.MergeFrom(tensor_pb2.Tensor(data=m.block.input.data[:-1])),
        ),
    ],
    "BLOCK_NOT_HERE": [
        *blocks(cross_entropy()),
        changed(
            block(cross_entropy(), 1, BOTH, 0, 2),
            lambda m: m.block.input.shared_memory.MergeFrom(tensor_pb2.SharedMemory(token=bytes(16), length=32)),
        ),
    ],
    "CLASS_OUT_OF_RANGE": blocks(cross_entropy(target=tensor([0, 1, 2, 3, 9, 0], "int64")), (0, 2), (2, 6)),
    "ONE_ITEM": open_only(pb.EntropyRequest(input=tensor(np.ones(8))), "input"),
    "ONE_ITEM along dimension 0": open_only(pb.EntropyRequest(input=tensor(np.ones((8, 3))), dim=0), "input"),
    "NOT_STREAMABLE scalar": open_only(pb.SelfInformationRequest(input=tensor(1.0)), "input"),
    "NOT_STREAMABLE": open_only(bce(weight=tensor(np.ones(1))), "input", "weight"),
    "NOT_STREAMABLE class weight": open_only(
        cross_entropy(weight=tensor(np.ones(C)), input=tensor(LOGITS[:C]), target=tensor(np.zeros(C), "int64")),
        "weight",
    ),
    "DENOMINATOR_UNKNOWN": open_only(cross_entropy(**GRADIENT), "input", "target"),
    "DENOMINATOR_UNKNOWN rows": open_only(
        pb.EntropyRequest(input=tensor(np.ones((3, 4))), row_weight=tensor(np.ones(3)), **GRADIENT),
        "input",
        "row_weight",
    ),
    "SHAPE_MISMATCH": open_only(cross_entropy(target=tensor(np.zeros(5), "int64")), "input", "target"),
    "OPTION_OUT_OF_RANGE": open_only(cross_entropy(label_smoothing=2.0), "input", "target"),
    "OPTION_NOT_TAKEN placements": open_only(
        cross_entropy(placements=[loss_pb2.Placement(gradient=loss_pb2.GRADIENT_INPUT)]), "input", "target"
    ),
    "MISSING_FIELD request": [pb.StreamRequest(open=pb.Open(evaluation_id=1))],
    "NO_SUCH_EVALUATION": [block(cross_entropy(), 1, BOTH, 0, 2)],
    "NO_SUCH_EVALUATION at its End": [end(1)],
    "STREAMED_OUTSIDE_STREAM": [
        pb.StreamRequest(opens=pb.Opens(opens=[opened(cross_entropy(), 1, ["input"])])),
    ],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alone(numba: Backend, name: str) -> None:
    """The evaluation fails with its reason, what follows for it is left unread, and the others are answered."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            other = list(messages(cross_entropy(), 2, BOTH, [0, 3, 6]))
            responses = await converse(
                channel, [*other[:2], *REFUSED[name], block(cross_entropy(), 1, BOTH, 0, 2), end(1), *other[2:]]
            )

            found = failures(responses)
            assert [reason(one) for one in found.values()] == [name.partition(" ")[0]]
            assert found[1].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            results = [one.result for one in responses if one.HasField("result")]
            assert [one.cross_entropy.summary.count for one in results if one.evaluation_id == 2] == [6]
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_an_index_is_that_of_the_whole(numba: Backend) -> None:
    """A bad label in a later block is named by its place in the whole target."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            found = failures(await converse(channel, REFUSED["CLASS_OUT_OF_RANGE"]))

            assert found[1].message == "target[4] = 9 is outside [0, 4)"
            assert details(found[1])["ErrorInfo"].metadata["index"] == "target[4]"

    asyncio.run(run())


def test_no_denominator(numba: Backend) -> None:
    """A gradient of a mean that cannot be scaled says what would help."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            found = failures(await converse(channel, REFUSED["DENOMINATOR_UNKNOWN"]))

            assert "normalizer" in found[1].message

    asyncio.run(run())


def test_an_item_too_large(numba: Backend) -> None:
    """An item that does not fit a message cannot be streamed: the sentence names shared memory."""

    async def run() -> None:
        async with serving(numba, max_message_bytes=1 << 16) as (_, channel):
            declared = tensor_pb2.Tensor(
                dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[3, 1 << 20], streamed=tensor_pb2.Streamed()
            )
            open_ = pb.Open(evaluation_id=1, entropy=pb.EntropyRequest(input=declared))
            found = failures(await converse(channel, [pb.StreamRequest(open=open_)]))

            assert reason(found[1]) == "ITEM_TOO_LARGE"
            assert "shared memory" in found[1].message

    asyncio.run(run())


def test_an_id_used_twice(numba: Backend) -> None:
    """An Open with an id in use fails the evaluation that has it, and starts none; the id is free afterwards."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            request = cross_entropy()
            sequence = list(messages(request, 1, BOTH, [0, 3, 6]))
            talk = Talk(channel)
            await talk.send(*sequence[:2], sequence[0], *sequence[1:])
            failed = await talk.receive()
            await talk.send(*sequence)
            (answered,) = await talk.rest()

            assert reason(failed.failure) == "ID_IN_USE"
            assert answered.result.cross_entropy.summary.count == 6
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_an_id_twice_in_one_message(numba: Backend) -> None:
    """Of two complete evaluations of one id neither is answered but by one Failure."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            opens = pb.Opens(opens=[opened(cross_entropy(), n) for n in (1, 2, 2, 3)])
            (response,) = await converse(channel, [pb.StreamRequest(opens=opens)])

            kinds = [(one.evaluation_id, one.WhichOneof("response")) for one in response.results.results]
            assert kinds == [(1, "cross_entropy"), (2, "failure"), (3, "cross_entropy")]

    asyncio.run(run())


def test_a_failure_among_complete_evaluations(numba: Backend) -> None:
    """What is wrong with one of those that share a message fails in their answer, alone."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            bad = cross_entropy(target=tensor([0, 1, 2, 3, 9, 0], "int64"))
            worse = cross_entropy(label_smoothing=2.0)
            opens = pb.Opens(
                opens=[opened(one, n) for n, one in enumerate((cross_entropy(), bad, worse, cross_entropy()))]
            )
            (response,) = await converse(channel, [pb.StreamRequest(opens=opens)])

            found = {one.evaluation_id: one for one in response.results.results}
            assert reason(found[1].failure) == "CLASS_OUT_OF_RANGE"
            assert reason(found[2].failure) == "OPTION_OUT_OF_RANGE"
            assert found[0].cross_entropy.summary.count == found[3].cross_entropy.summary.count == 6

    asyncio.run(run())


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x05\x08"])
def test_no_message(numba: Backend, body: bytes) -> None:
    """What is no StreamRequest ends the stream with INVALID_ARGUMENT."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            call: Any = channel.stream_stream("/lossd.v1.LossService/Stream")()
            await call.write(body)

            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert of_call(caught.value)["ErrorInfo"].reason == "MALFORMED_MESSAGE"
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_a_bug_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of our own is INTERNAL for the evaluation that met it, with the request id that the log has."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            bad = cross_entropy(ignore_index=POISON)
            sent = [*messages(bad, 1, BOTH, [0, 6]), *messages(cross_entropy(), 2, BOTH, [0, 6])]
            responses = await converse(channel, sent)

            found = failures(responses)
            assert reason(found[1]) == "INTERNAL"
            logged = [vars(one)["request_id"] for one in caplog.records if one.message == "internal error"]
            assert [details(found[1])["ErrorInfo"].metadata["request_id"]] == logged
            assert SECRET not in str(found[1])
            assert [one.result.evaluation_id for one in responses if one.HasField("result")] == [2]
            assert (await stub(channel).CrossEntropy(cross_entropy())).summary.count == 6

    asyncio.run(run())

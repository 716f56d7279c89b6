"""Requests as messages of a stream, made with generated classes alone, and what comes back put together again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import grpc.aio
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.tensors.array import STORAGE
from tests.server.running import stub

FIELDS = {one.message_type.name: one.name for one in pb.Open.DESCRIPTOR.fields if one.message_type and one.number > 1}
ROWS = ("loss", "input_gradient", "target_gradient")


def opened(request: Any, evaluation_id: int, streamed: Sequence[str] = ()) -> pb.Open:
    """The Open of a request whose tensors `streamed` come in blocks."""
    one: Any = type(request)()
    one.CopyFrom(request)
    for name in streamed:
        getattr(one, name).streamed.SetInParent()
    return pb.Open(evaluation_id=evaluation_id, **{FIELDS[request.DESCRIPTOR.name]: one})


def block(request: Any, evaluation_id: int, streamed: Sequence[str], first: int, stop: int) -> pb.StreamRequest:
    """Items first … stop − 1 of the streamed tensors."""
    of = pb.Block(evaluation_id=evaluation_id, first_item=first)
    for name in streamed:
        whole = getattr(request, name)
        item = len(whole.data) // whole.shape[0]
        getattr(of, name).CopyFrom(
            tensor_pb2.Tensor(
                dtype=whole.dtype, shape=[stop - first, *whole.shape[1:]], data=whole.data[first * item : stop * item]
            )
        )
    return pb.StreamRequest(block=of)


def end(evaluation_id: int) -> pb.StreamRequest:
    return pb.StreamRequest(end=pb.End(evaluation_id=evaluation_id))


def messages(request: Any, evaluation_id: int, streamed: Sequence[str], cuts: Sequence[int]) -> Iterator[Any]:
    """Open, the blocks between `cuts`, End."""
    yield pb.StreamRequest(open=opened(request, evaluation_id, streamed))
    for first, stop in pairwise(cuts):
        yield block(request, evaluation_id, streamed, first, stop)
    yield end(evaluation_id)


class Talk:
    """One stream, spoken message by message."""

    def __init__(self, channel: grpc.aio.Channel, **options: Any) -> None:
        self.call = stub(channel).Stream(**options)

    async def send(self, *of: Any) -> None:
        for one in of:
            await self.call.write(one)

    async def receive(self) -> Any:
        """The next response; grpc.aio.EOF at the end."""
        return await self.call.read()

    async def rest(self) -> list[Any]:
        """Says that all has been sent; all responses that are left."""
        await self.call.done_writing()
        found = []
        while (one := await self.call.read()) is not grpc.aio.EOF:
            found.append(one)
        return found


async def converse(channel: grpc.aio.Channel, of: Iterable[Any], **options: Any) -> list[Any]:
    """The responses of a stream of these messages, read while they are sent."""
    talk = Talk(channel, **options)
    found = []

    async def read() -> None:
        while (one := await talk.call.read()) is not grpc.aio.EOF:
            found.append(one)

    reading = asyncio.ensure_future(read())
    await talk.send(*of)
    await talk.call.done_writing()
    await reading
    return found


def whole(request: Any, responses: Iterable[Any], evaluation_id: int) -> Any:
    """The unary answer that the responses of one evaluation say in pieces, without its timing."""
    tensors: dict[str, Any] = {}
    answer = None
    for one in responses:
        kind = one.WhichOneof("message")
        if kind == "failure" and one.failure.evaluation_id == evaluation_id:
            raise AssertionError(one.failure)
        if kind == "block" and one.block.evaluation_id == evaluation_id:
            for name in ROWS:
                if one.block.HasField(name):
                    _append(tensors, name, getattr(one.block, name))
            for descriptor, value in one.block.outputs.ListFields():
                _append(tensors, f"outputs.{descriptor.name}", value)
        if kind == "result" and one.result.evaluation_id == evaluation_id:
            answer = getattr(one.result, one.result.WhichOneof("response"))
    assert answer is not None
    for name, tensor in tensors.items():
        place = answer
        for part in name.split("."):
            place = getattr(place, part)
        place.CopyFrom(tensor)
    answer.ClearField("timing")
    return answer


def _append(tensors: dict[str, Any], name: str, more: Any) -> None:
    found = tensors.setdefault(name, tensor_pb2.Tensor(dtype=more.dtype, shape=[0, *more.shape[1:]]))
    assert len(more.data) == STORAGE[more.dtype].itemsize * _product(more.shape)
    found.data += more.data
    found.shape[0] += more.shape[0]


def _product(shape: Iterable[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def failures(responses: Iterable[Any]) -> dict[int, Any]:
    """The Failures by their evaluation's id, those among shared results included."""
    found = {}
    for one in responses:
        if one.HasField("failure"):
            found[one.failure.evaluation_id] = one.failure
        for result in one.results.results:
            if result.HasField("failure"):
                assert result.failure.evaluation_id == result.evaluation_id
                found[result.evaluation_id] = result.failure
    return found


def details(failure: Any) -> dict[str, Any]:
    """What a Failure carries, by the name of its type."""
    found: dict[str, Any] = {}
    for detail in failure.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            message: Any = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found


def reason(failure: Any) -> str:
    return str(details(failure)["ErrorInfo"].reason)

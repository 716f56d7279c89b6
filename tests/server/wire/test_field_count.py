"""A message is refused for how many fields it has before a parser makes objects of them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd.wire import message_field, varint
from lossd_server.errors import InvalidRequest
from lossd_server.wire import codec, field_count
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import details, held, raw, refused, serving
from tests.server.streaming.hostile import hostile, requests

MANY = 1 << 20
# Fields of a request, each of two bytes or three, and what the refusal names.
BOMBS = {
    "gradients": (varint(11 << 3) + b"\1", "gradients"),
    "outputs": (varint(15 << 3) + b"\1", "outputs"),
    "placements": (message_field(16, b""), "placements"),
    "input": (message_field(1, b""), "input"),
    "unknown numbers": (varint(101 << 3) + b"\1", ""),
    "unknown messages": (message_field(101, b""), ""),
    "a group": (varint(101 << 3 | 3) + varint(101 << 3 | 4), ""),
    "fixed": (varint(101 << 3 | 5) + bytes(4), ""),
}
PACKED = {
    "shape": (message_field(1, message_field(2, b"\1" * MANY)), "shape"),
    "gradients": (message_field(11, b"\1" * MANY), "gradients"),
    "outputs": (message_field(15, b"\1" * MANY), "outputs"),
}


def bombs() -> list[Any]:
    found = [pytest.param(part * MANY, name, id=f"many {kind}") for kind, (part, name) in BOMBS.items()]
    return found + [pytest.param(body, name, id=f"packed {kind}") for kind, (body, name) in PACKED.items()]


@pytest.mark.parametrize(("body", "name"), bombs())
def test_requests_of_too_many_fields(body: bytes, name: str) -> None:
    """The refusal names the field at which it was too much, and says how many are taken."""
    with pytest.raises(InvalidRequest) as caught:
        codec.decode("CrossEntropy", body)

    assert (caught.value.reason, caught.value.field) == ("TOO_MANY_FIELDS", name)
    assert caught.value.metadata["bound"] == str(field_count.MAX_REQUEST_FIELDS)


@pytest.mark.parametrize(("body", "name"), bombs())
def test_the_same_within_messages_of_a_stream(body: bytes, name: str) -> None:
    """However deep they lie."""
    opened = message_field(3, body)  # Open.cross_entropy
    for message in (message_field(1, opened), message_field(4, message_field(1, opened))):
        with pytest.raises(InvalidRequest) as caught:
            codec.decode_stream(message)

        assert (caught.value.reason, caught.value.field) == ("TOO_MANY_FIELDS", name)


@pytest.mark.parametrize("kind", [*BOMBS, "opens"])
def test_neither_kind_of_call_is_parsed(kind: str) -> None:
    """A unary call ends with the refusal, and so does a stream; nothing of it is held."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            part = message_field(1, b"") if kind == "opens" else BOMBS[kind][0]
            if kind != "opens":
                error = await refused(raw(channel, "CrossEntropy")(part * MANY))
                assert details(error)["ErrorInfo"].reason == "TOO_MANY_FIELDS"
            inner = part * MANY if kind == "opens" else message_field(1, message_field(3, part * MANY))
            call: Any = channel.stream_stream("/lossd.v1.LossService/Stream")()
            await call.write(message_field(4, inner))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()

            assert details(caught.value)["ErrorInfo"].reason == "TOO_MANY_FIELDS"
            assert await held(channel) == (0, 0)

    asyncio.run(run())


def test_messages_that_a_sender_needs_are_taken() -> None:
    """As many Opens as a stream may have, with all that they may say, and a request with large tensors."""
    full = pb.CrossEntropyRequest()
    full.CopyFrom(cross_entropy())
    for name in ("weight", "row_weight", "grad_output"):
        getattr(full, name).CopyFrom(tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[8], data=bytes(32)))
    full.ignore_index, full.label_smoothing = 5, 0.1
    opens = pb.Opens(opens=[pb.Open(evaluation_id=number, cross_entropy=full) for number in range(4096)])

    message, _ = codec.decode_stream(pb.StreamRequest(opens=opens).SerializeToString())
    assert len(message.opens.opens) == 4096
    large = cross_entropy(1000, 1000)
    assert codec.decode("CrossEntropy", large.SerializeToString()) == large


def fields_in(message: Message) -> int:
    """What the walk counts of a message as the generated class writes it."""
    count = 0
    for field, value in message.ListFields():
        repeated = list(value) if field.is_repeated else [value]
        if field.message_type is not None:
            count += sum(1 + fields_in(one) for one in repeated)
        else:
            count += 1 + (len(repeated) if field.is_repeated else 0)  # its tag, and each packed number
    return count


def walked(body: bytes, descriptor: Any = field_count.STREAM_REQUEST) -> tuple[int, int, int]:
    view = np.frombuffer(body, np.uint8)
    return field_count.count_fields(view, field_count.OF_LOSSES.table, field_count.OF_LOSSES.kinds[descriptor], 1 << 40)


def counted(message: Any) -> int:
    return walked(message.SerializeToString(), message.DESCRIPTOR)[0]


@pytest.mark.parametrize("request_", [request for request, _ in requests()], ids=lambda one: str(one.DESCRIPTOR.name))
def test_fields_are_counted_exactly(request_: Any) -> None:
    """Of right messages: every field of every message in it, and every packed number."""
    assert counted(request_) == fields_in(request_)
    opened = pb.StreamRequest(opens=pb.Opens(opens=[pb.Open(evaluation_id=1)] * 3))
    assert counted(opened) == fields_in(opened)


@settings(deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_fewer_are_counted_than_are_parsed(seed: int) -> None:
    """Of changed and cut messages: the walk ends, and where they can be parsed it has met all that is in them."""
    for body in hostile(random.Random(seed)):
        count, _, _ = walked(body)
        try:
            message = pb.StreamRequest.FromString(body)
        except Exception:
            continue
        assert count >= fields_in(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_to_their_end(body: bytes) -> None:
    """Each field is at least a byte."""
    count, kind, _ = walked(body)

    assert 0 <= count <= len(body)
    assert 0 <= kind < len(field_count.OF_LOSSES.kinds)

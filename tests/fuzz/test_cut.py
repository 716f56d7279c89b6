"""The codec that cuts large elements out, held to the generated classes on messages good and bad."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd import wire
from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from tests.fuzz.agreement import agree, parsed
from tests.fuzz.bodies import DESCRIPTORS, message
from tests.fuzz.inputs import kept, run, shown

BY_NAME = st.sampled_from(sorted(DESCRIPTORS))
TENSOR = pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[100], data=bytes(range(100)))
HELD = TENSOR.SerializeToString()
REQUEST = service.BCERequest(input=TENSOR, target=TENSOR, normalizer=2.0)
BODY = REQUEST.SerializeToString()
BCE = service.BCERequest.DESCRIPTOR
OPEN = service.StreamRequest(open=service.Open(evaluation_id=7, bce=REQUEST)).SerializeToString()


class Drawn:
    """Choices by hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def below(self, bound: int) -> int:
        return self._data.draw(st.integers(0, bound - 1))

    def bytes(self, length: int) -> bytes:
        return self._data.draw(st.binary(min_size=length, max_size=length))


def field(number: int, body: bytes) -> bytes:
    return wire.message_field(number, body)


@settings(max_examples=500, deadline=None)  # `make fuzz` looks on
@given(data=st.data(), name=BY_NAME, least=st.sampled_from([1, 4, 16]))
def test_any_message_is_cut_as_it_is_parsed(data: st.DataObject, name: str, least: int) -> None:
    """Duplicates, groups, unknown fields, wrong wire types, wrong lengths, overlong numbers: the cut agrees."""
    agree(DESCRIPTORS[name], message(Drawn(data), DESCRIPTORS[name]), least)


@settings(max_examples=500, deadline=None)
@given(name=st.sampled_from(["BCERequest", "Tensor", "StreamRequest"]), data=st.data())
def test_any_damage_is_seen_as_it_is_parsed(name: str, data: st.DataObject) -> None:
    """A good message with bytes changed, taken out, put in, doubled or swapped: the cut agrees."""
    body = {"BCERequest": BODY, "Tensor": HELD, "StreamRequest": OPEN}[name]
    for _ in range(data.draw(st.integers(1, 4))):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
        again = data.draw(st.sampled_from([b"", body[start:end] * 2, body[start:end][::-1]]) | st.binary(max_size=4))
        body = body[:start] + again + body[end:]

    agree(DESCRIPTORS[name], body, 16)


@settings(max_examples=300, deadline=None)
@given(name=BY_NAME, body=st.binary(max_size=200))
def test_any_bytes_are_seen_as_they_are_parsed(name: str, body: bytes) -> None:
    """Bytes of any kind: the cut agrees."""
    agree(DESCRIPTORS[name], body, 1)


@pytest.mark.parametrize("size", range(len(OPEN) + 1))
def test_a_message_cut_short_is_seen_as_it_is_parsed(size: int) -> None:
    """Truncated after any byte."""
    agree(service.StreamRequest.DESCRIPTOR, OPEN[:size], 16)


@pytest.mark.parametrize("data", kept(), ids=lambda data: data[:12].hex())
def test_what_the_fuzzer_kept_still_agrees(data: bytes) -> None:
    """Inputs that once reached code of their own (`make fuzz`)."""
    run(data)


PLAIN = {
    "a request": (BCE, BODY, [("input",), ("target",)]),
    "fields in another order": (BCE, field(2, HELD) + b"\x51" + bytes(8) + field(1, HELD), [("input",), ("target",)]),
    "an unknown field": (BCE, b"\xba\x3e\x03abc" + field(1, HELD + b"\xba\x3e\x01a"), [("input",)]),
    "a tensor alone": (TENSOR.DESCRIPTOR, HELD, [()]),
    "an open": (service.StreamRequest.DESCRIPTOR, OPEN, [("open", "bce", "input"), ("open", "bce", "target")]),
    "one large of two": (
        BCE,
        field(1, HELD) + field(2, pb.Tensor(data=b"short").SerializeToString()),
        [("input",)],
    ),
    "by-products": (
        service.CrossEntropyResponse.DESCRIPTOR,
        service.CrossEntropyResponse(outputs=loss_pb2.Outputs(argmax=TENSOR), loss=TENSOR).SerializeToString(),
        [("loss",), ("outputs", "argmax")],
    ),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_message_is_cut(kind: str) -> None:
    """The elements are views of the bytes received, at the path of their tensor."""
    descriptor, body, paths = PLAIN[kind]
    _, views = wire.take_large_data(descriptor, body, 16)

    assert sorted(views) == paths
    assert all(view.obj is body and view == TENSOR.data for view in views.values())
    assert agree(descriptor, body, 16) == len(paths)


SHARED = pb.Tensor(shared_memory=pb.SharedMemory(token=b"t" * 16)).SerializeToString()
DATA = HELD[HELD.index(wire.tag(wire.DATA)) :]
NOT_PLAIN: dict[str, tuple[Descriptor, bytes]] = {
    "a tensor twice": (BCE, field(1, HELD) * 2),
    "a tensor, then an empty one": (BCE, field(1, HELD) + field(1, b"")),
    "an empty tensor, then one": (BCE, field(1, b"") + field(1, HELD)),
    "elements twice": (BCE, field(1, HELD + DATA)),
    "elements, then none": (BCE, field(1, HELD + wire.message_field(wire.DATA, b""))),
    "elements, then shared memory": (BCE, field(1, HELD + SHARED)),
    "shared memory, then elements": (BCE, field(1, SHARED + HELD)),
    "an open, then an end": (service.StreamRequest.DESCRIPTOR, OPEN + field(3, b"")),
    "a loss, then another": (
        service.StreamRequest.DESCRIPTOR,
        field(1, field(4, BODY) + field(5, b"")),
    ),
    "a group": (BCE, b"\x9b\x06\x9c\x06" + BODY),
    "a long tag": (BCE, b"\x8a\x00" + wire.varint(len(HELD)) + HELD),
    "a long length": (BCE, b"\x0a" + bytes([len(HELD) | 0x80, 0]) + HELD),
    "a length that runs over": (BCE, b"\x0a" + wire.varint(len(HELD) + 1) + HELD),
    "elements that run over their tensor": (BCE, b"\x0a" + wire.varint(len(HELD) - 1) + HELD),
    "field 0": (BCE, BODY + b"\x02\x00"),
    "a tag above 32 bits": (BCE, BODY + b"\x82\x80\x80\x80\x10\x00"),
    "too many fields": (BCE, BODY + b"\x50\x01" * wire.MAX_FIELDS),
}


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_generated_class(kind: str) -> None:
    """No views, and the message, or the refusal, of the generated class."""
    descriptor, body = NOT_PLAIN[kind]

    assert agree(descriptor, body, 16) == 0
    if parsed(descriptor, body) is not None:
        assert wire.take_large_data(descriptor, body, 16)[1] == {}


def test_elements_below_the_bound_are_parsed() -> None:
    """Of 99 bytes or 100, those of 100 are cut."""
    assert wire.take_large_data(BCE, BODY, 101)[1] == {}
    assert len(wire.take_large_data(BCE, BODY, 100)[1]) == 2


def test_opens_are_left_whole() -> None:
    """Evaluations that share a message are a repeated field, and small."""
    shared = service.StreamRequest(opens=service.Opens(opens=[service.Open(bce=REQUEST)] * 3)).SerializeToString()

    assert wire.take_large_data(service.StreamRequest.DESCRIPTOR, shared, 16)[1] == {}
    assert agree(service.StreamRequest.DESCRIPTOR, shared, 16) == 0


def test_a_header_is_what_the_generated_class_writes() -> None:
    """A Tensor field up to its elements, for every dtype, with and without elements."""
    for dtype, width in wire.WIDTHS.items():
        for shape in [(), (3,), (2, 5), (0, 4), (200, 3)]:
            size = width * shape[0] * shape[-1] ** (len(shape) - 1) if shape else width
            tensor = pb.Tensor(dtype=dtype, shape=shape, data=b"\1" * size)  # type: ignore[arg-type]
            request = service.BCERequest(target=tensor)

            assert service.BCERequest.FromString(wire.tensor_header(2, dtype, shape) + b"\1" * size) == request


def test_an_input_of_the_fuzzer_can_be_read() -> None:
    """`shown` says what a line of the corpus holds: its message's type, the bound, the bytes."""
    name, least, body = shown(b"\0\1\2abc")

    assert name in DESCRIPTORS
    assert least >= 1
    assert isinstance(body, bytes)

"""Contents of inference requests: typed ones mean what raw ones do, and bytes mean what the class reads in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.wire import tag, varint
from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest
from lossd_server.inference import contents
from lossd_server.inference.models import DATATYPES
from lossd_server.inference.protocol import InferTensorContents, ModelInferRequest
from lossd_server.server import Server
from lossd_server.tensors.array import STORAGE
from lossd_server.wire.field_count import COUNTED_BYTES
from tests.fuzz.bodies import message as fuzzed_message
from tests.losses.messages import tensor
from tests.losses.requests import bce, cross_entropy
from tests.server.inference.inferring import (
    MODEL_INFER,
    Handle,
    inferred,
    refusal_of,
    response_of,
    unpacked,
    with_server,
)

RNG = np.random.default_rng(3)
FIELDS = {datatype: contents.TYPED[dtype][0] for datatype, dtype in DATATYPES.items() if dtype in contents.TYPED}


def typed(message: Any) -> Any:
    """The same request with typed contents in place of raw ones."""
    for sent, raw in zip(message.inputs, message.raw_input_contents, strict=True):
        values = np.frombuffer(raw, STORAGE[DATATYPES[sent.datatype]]).tolist()
        getattr(sent.contents, FIELDS[sent.datatype]).extend(values)
    message.ClearField("raw_input_contents")
    return message


REQUESTS = [
    cross_entropy(input=tensor(RNG.normal(size=(8, 16))), target=tensor(RNG.integers(0, 16, 8), "int64")),
    cross_entropy(input=tensor(RNG.normal(size=(8, 16)), "float64"), target=tensor(RNG.integers(0, 16, 8), "int8")),
    cross_entropy(target=tensor([-1, 0, 1, -1, 2, 3, 4, 5], "int16"), ignore_index=-1),
    cross_entropy(target=tensor([-(2**31), 0, 1, 2, 3, 4, 5, 6], "int32"), ignore_index=-(2**31)),
    cross_entropy(target=tensor([-(2**63), 0, 1, 2, 3, 4, 5, 6], "int64"), ignore_index=-(2**63)),
    cross_entropy(target=tensor(RNG.integers(0, 16, 8), "uint8")),
    bce(input=tensor(RNG.random((8, 16))), target=tensor(RNG.random((8, 16)) > 0.5, "bool")),
    cross_entropy(input=tensor(RNG.normal(size=(800, 160))), target=tensor(RNG.integers(0, 160, 800), "int64")),
    cross_entropy(input=tensor(np.zeros((0, 5))), target=tensor(np.zeros(0), "int64")),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_typed_contents(numba: Backend, request_: Any) -> None:
    """Every datatype that has a field there, small and large, gives what raw contents give."""

    async def body(handle: Handle, _: Server) -> None:
        for _round in range(3):
            raw = response_of(await handle(MODEL_INFER, inferred(request_).SerializeToString()))
            other = response_of(await handle(MODEL_INFER, typed(inferred(request_)).SerializeToString()))
            assert unpacked(other) == unpacked(raw)

    with_server(numba, body)


def unpacked_floats(values: list[float]) -> bytes:
    """Each a field of its own, as proto2 writes them."""
    return b"".join(b"\x35" + np.float32(value).tobytes() for value in values)


def test_floats_are_views_of_the_message() -> None:
    """Packed floats of a large message are not copied; those in fields of their own are read alike."""
    packed = InferTensorContents(fp32_contents=[1.0, -2.5]).SerializeToString()
    found = contents.typed_elements("input", DATATYPES["FP32"], packed)

    assert isinstance(found, memoryview)
    assert found == contents.typed_elements("input", DATATYPES["FP32"], unpacked_floats([1.0, -2.5]))


REFUSED = [
    ("FP16", InferTensorContents(fp32_contents=[1]), "CONTENTS_NOT_TAKEN", "no field for: send raw_input_contents"),
    ("BF16", InferTensorContents(), "CONTENTS_NOT_TAKEN", "no field for: send raw_input_contents"),
    ("INT32", InferTensorContents(int64_contents=[1]), "CONTENTS_NOT_TAKEN", "in another field than int_contents"),
    (
        "FP32",
        InferTensorContents(fp32_contents=[1], fp64_contents=[1]),
        "CONTENTS_NOT_TAKEN",
        "another field than fp32",
    ),
    (
        "INT8",
        InferTensorContents(int_contents=[0, 128]),
        "INTEGER_OUT_OF_RANGE",
        "input has 128 at flat index 1, outside",
    ),
    ("INT16", InferTensorContents(int_contents=[-32769]), "INTEGER_OUT_OF_RANGE", "outside [-32768, 32767]"),
    ("UINT8", InferTensorContents(uint_contents=[256]), "INTEGER_OUT_OF_RANGE", "outside [0, 255]"),
    ("INT64", InferTensorContents(int64_contents=[0] * 16385), "CONTENTS_NOT_TAKEN", "has more than 16384 integers"),
    ("INT64", InferTensorContents(int64_contents=[-1] * 10**6), "CONTENTS_NOT_TAKEN", "has more than 16384 integers"),
    ("INT64", b"\x1a\x01\xff", "MALFORMED_MESSAGE", "no inference.InferTensorContents"),
    ("INT64", b"\x1a\x0b" + b"\xff" * 10 + b"\x01", "MALFORMED_MESSAGE", "no inference.InferTensorContents"),
    ("FP32", unpacked_floats([1.0] * 65), "CONTENTS_NOT_TAKEN", "in more than 64 fields: pack fp32_contents into one"),
    ("FP32", b"\x32\x05\x00", "MALFORMED_MESSAGE", "no inference.InferTensorContents"),
]


@pytest.mark.parametrize("datatype, sent, reason, sentence", REFUSED, ids=[f"{r[0]} {r[3]}" for r in REFUSED])
def test_typed_contents_that_are_refused(datatype: str, sent: Any, reason: str, sentence: str) -> None:
    """The wrong field, numbers that the datatype does not hold, too many integers, too many pieces, no message."""
    body = sent if isinstance(sent, bytes) else sent.SerializeToString()
    with pytest.raises(InvalidRequest) as caught:
        contents.typed_elements("input", DATATYPES[datatype], body)

    assert caught.value.reason == reason
    assert sentence in caught.value.message


def test_floats_of_a_wrong_length(numba: Backend) -> None:
    """Typed contents are checked against the shape as raw ones are."""

    async def body(handle: Handle, _: Server) -> None:
        message = typed(inferred(REQUESTS[0]))
        message.inputs[0].contents.fp32_contents.append(1.0)

        assert refusal_of(await handle(MODEL_INFER, message.SerializeToString()))[:3] == (
            "INVALID_ARGUMENT",
            "LENGTH_MISMATCH",
            "input",
        )

    with_server(numba, body)


class Hypothesis:
    """Choices for `bodies.message`."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def below(self, bound: int) -> int:
        return self._data.draw(st.integers(0, bound - 1))

    def bytes(self, length: int) -> bytes:
        return self._data.draw(st.binary(min_size=length, max_size=length))


def put_back(split: contents.SplitRequest) -> Any:
    """The message that was split."""
    message = ModelInferRequest()
    message.CopyFrom(split.message)
    for place, typed_contents in split.typed.items():
        message.inputs[place].contents.MergeFromString(bytes(typed_contents))
    message.ClearField("raw_input_contents")
    message.raw_input_contents.extend(bytes(raw) for raw in split.raw)
    return message


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_large_message_means_what_the_class_reads(data: st.DataObject) -> None:
    """Cut and put together again, any bytes are the message that the generated class makes of them, or are refused as
    by it; groups, which no writer of this protocol has, are refused too."""
    body = fuzzed_message(Hypothesis(data), ModelInferRequest.DESCRIPTOR)
    padding = varint(1 << 3 | 2) + varint(COUNTED_BYTES) + b"m" * COUNTED_BYTES
    body = body + padding if data.draw(st.booleans()) else padding + body
    try:
        expected = ModelInferRequest.FromString(body)
    except DecodeError:
        expected = None
    try:
        found = put_back(contents.split_request(body))
    except (InvalidRequest, DecodeError):
        found = None

    if found is None:
        assert expected is None or has_groups(expected)
    else:
        assert expected is not None
        assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("zeros", [3, 4, 5, 8])
@pytest.mark.parametrize("field", [tag(contents.RAW), tag(contents.INPUTS)])
def test_a_length_of_more_bytes_than_the_class_reads(field: bytes, zeros: int) -> None:
    """A number may be written with zeros behind it; five bytes of a length are the most."""
    body = varint(1 << 3 | 2) + varint(COUNTED_BYTES) + b"m" * COUNTED_BYTES + field + b"\x80" * zeros + b"\x00"
    if zeros < 5:
        assert put_back(contents.split_request(body)) == ModelInferRequest.FromString(body)
    else:
        with pytest.raises(DecodeError):
            ModelInferRequest.FromString(body)
        with pytest.raises(InvalidRequest, match=r"is no inference\.ModelInferRequest"):
            contents.split_request(body)


def has_groups(message: Any) -> bool:
    """Whether the message has unknown fields that are groups."""

    def within(part: Any) -> bool:
        unknown: Any = UnknownFieldSet(part)  # its stubs do not say that it is a sequence
        if any(field.wire_type == 3 for field in unknown):
            return True
        return any(
            within(one)
            for field, value in part.ListFields()
            if field.message_type is not None and not field.message_type.GetOptions().map_entry
            for one in (value if field.is_repeated else [value])
        )

    return within(message)

"""Hostile messages: whatever they hold, a check ends in a Job or in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.v1 import tensor_pb2 as pb
from lossd_server import losses
from lossd_server.errors import InvalidRequest, NotServed, ServerError
from lossd_server.jobs.job import Job
from lossd_server.wire import codec
from tests.losses.checked import check

DTYPES = st.sampled_from([0, 1, 2, 5, 6, 16, 17, 20, 21, 22, 23, 24, -1])
SIZES = st.sampled_from([0, 1, 2, 3, -1, 2**40, 2**62])
SHAPES = st.sampled_from([[], [1], [2], [2, 3], [2, 3, 2], [0, 3], [3, 0]]) | st.lists(SIZES, max_size=10)
DOUBLES = st.sampled_from([0.0, 1.0, 0.5, 2.0, -1.0, 1e308, 5e-324, float("inf"), float("nan")])


@st.composite
def tensors(draw: st.DrawFn) -> pb.Tensor:
    """Often of the right length, so that the later checks are reached."""
    dtype, shape = draw(DTYPES), draw(SHAPES)
    tensor = pb.Tensor(dtype=dtype, shape=shape)  # type: ignore[arg-type]  # any number may come
    right = 1
    for length in shape:
        right *= length
    width = {1: 1, 2: 1, 5: 4, 6: 8, 16: 1, 17: 1, 20: 2, 21: 2, 22: 4, 23: 8}.get(dtype, 1)
    storage = draw(st.sampled_from(["right"] * 8 + ["wrong", "none", "streamed", "shared_memory"]))
    if storage == "right" and 0 <= right * width < 4096:
        tensor.data = draw(st.sampled_from([b"\x00", b"\x01", b"\xff"])) * (right * width)
    elif storage == "wrong":
        tensor.data = draw(st.binary(max_size=64))
    elif storage == "streamed":
        tensor.streamed.SetInParent()
    elif storage == "shared_memory":
        tensor.shared_memory.length = 2**63
    return tensor


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Something for a field of a request, wrong more often than not."""
    if field.message_type is not None and field.message_type.name == "Tensor":
        return tensors()
    if field.enum_type is not None:
        value = st.integers(-1, 6)
        return st.lists(value, max_size=10) if field.is_repeated else value
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return DOUBLES
    return st.sampled_from([0, 1, -1, -100, 2**63 - 1, -(2**63)])


@st.composite
def requests(draw: st.DrawFn, rpc: str) -> Message:
    """A request of `rpc`: input and target always, any other field sometimes."""
    fields = [field for field in codec.METHODS[rpc].input_type.fields if field.name != "placements"]
    always = {field.name: values(field) for field in fields if field.name in ("input", "target")}
    maybe = {field.name: values(field) for field in fields if field.name not in always}
    return set_in(codec.decode(rpc, b""), draw(st.fixed_dictionaries(always, optional=maybe)))


def set_in(message: Message, chosen: Mapping[str, Any]) -> Message:
    for name, value in chosen.items():
        if isinstance(value, Message):
            getattr(message, name).CopyFrom(value)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


def checked(rpc: str, message: Message) -> Job | ServerError:
    """What the check says; any other exception fails the test."""
    try:
        return check(rpc, message)
    except (InvalidRequest, NotServed) as refused:
        return refused


@pytest.mark.parametrize("rpc", sorted(losses.SERVED))
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_check_ends_in_a_job_or_a_sentence(rpc: str, data: st.DataObject) -> None:
    """Any message gives a Job, InvalidRequest or NotServed, and nothing else."""
    outcome = checked(rpc, data.draw(requests(rpc)))

    if isinstance(outcome, Job):
        assert codec.response_bytes(outcome) < 2**20
    else:
        assert outcome.field in codec.METHODS[rpc].input_type.fields_by_name
        assert outcome.reason.isupper()
        assert 0 < len(outcome.message) < 500


@settings(max_examples=300, deadline=None)
@given(rpc=st.sampled_from(sorted(losses.SERVED)), body=st.binary(max_size=200))
def test_any_bytes_give_a_message_or_malformed(rpc: str, body: bytes) -> None:
    """Bytes that are no message are told so; a message that they are by chance is checked like any other."""
    try:
        message = codec.decode(rpc, body)
    except InvalidRequest as refused:
        outcome: Job | ServerError = refused
    else:
        outcome = checked(rpc, message)

    assert isinstance(outcome, Job) or outcome.reason

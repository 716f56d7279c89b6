"""Results found in a message without parsing it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.streaming.result_entries import results_of
from lossd.v1 import loss_pb2, service_pb2


def result(number: int, size: int) -> service_pb2.EvaluationResult:
    """With a response of about that many bytes; a failure where it is 0."""
    if not size:
        failure = service_pb2.Failure(evaluation_id=number, code=3, message="no")
        return service_pb2.EvaluationResult(evaluation_id=number, failure=failure)
    response = service_pb2.NLLResponse(summary=loss_pb2.Summary(loss_sum=1.0))
    response.loss.data = bytes(size)
    return service_pb2.EvaluationResult(evaluation_id=number, nll=response)


messages = st.lists(
    st.builds(result, st.one_of(st.integers(1, 1 << 9), st.integers(1, 1 << 40)), st.integers(0, 300)), max_size=6
).map(
    lambda found: service_pb2.StreamResponse(results=service_pb2.EvaluationResults(results=found)).SerializeToString()
)


def parsed(body: bytes) -> Any:
    try:
        return service_pb2.StreamResponse.FromString(body)
    except DecodeError:
        return None


@settings(max_examples=500, deadline=None)
@given(messages, st.data())
def test_results_are_where_the_generated_class_finds_them(body: bytes, data: st.DataObject) -> None:
    """Of messages whole and damaged: what is found is all there is, and otherwise nothing is."""
    damaged = bytearray(body)
    if data.draw(st.booleans()) and body:
        at = data.draw(st.integers(0, len(body)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    entries = results_of(bytes(damaged))
    message = parsed(bytes(damaged))
    if entries is None:
        return
    for _, _, at, start, end in entries:
        assert at < start <= end <= len(damaged)
    if message is None:
        return  # what is inside a response is its own class's to refuse

    assert message.WhichOneof("message") == "results"
    assert len(message.results.results) == len(entries)
    for one, (number, tag, at, start, end) in zip(message.results.results, entries, strict=True):
        assert one.evaluation_id == number
        assert service_pb2.EvaluationResult.FromString(bytes(damaged[at:end])) == one
        kind = one.WhichOneof("response")
        if kind is not None:
            assert service_pb2.EvaluationResult.DESCRIPTOR.fields_by_name[kind].number == tag >> 3
            assert getattr(one, kind).__class__.FromString(bytes(damaged[start:end])) == getattr(one, kind)


@given(st.lists(st.integers(1, 1 << 27), min_size=1, max_size=200))
def test_plain_results_are_found(numbers: list[int]) -> None:
    """In each message that a server of ours sends, up to the 134 millionth evaluation of a stream."""
    said = service_pb2.EvaluationResults(results=[result(number, 40) for number in numbers])
    entries = results_of(service_pb2.StreamResponse(results=said).SerializeToString())

    assert entries is not None
    assert [entry[0] for entry in entries] == numbers


@pytest.mark.parametrize(
    "message",
    [
        service_pb2.StreamResponse(),
        service_pb2.StreamResponse(result=result(1, 40)),
        service_pb2.StreamResponse(failure=service_pb2.Failure(evaluation_id=1)),
        service_pb2.StreamResponse(block=service_pb2.BlockResult(evaluation_id=1)),
        service_pb2.StreamResponse(results=service_pb2.EvaluationResults(results=[service_pb2.EvaluationResult()])),
    ],
)
def test_other_messages_are_left_to_the_generated_class(message: Any) -> None:
    """One result, a failure, a block, a result that says nothing."""
    assert results_of(message.SerializeToString()) is None

"""Templates against the general way: the same requests, results and errors, whatever is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lossd import results
from lossd.fast_path.request_template import RequestTemplate, recall
from lossd.request.build import Call, build
from lossd.results import Result
from lossd.routing.choose_transport import SMALL_BYTES
from lossd.streaming.evaluation import SmallEvaluation
from lossd.streaming.exchange import Exchange
from lossd.v1 import service_pb2
from lossd_server.backends import Backend
from tests.client.fast_path.alike import answered, outcome, told
from tests.client.fast_path.calls import SmallCall, small_calls

EXAMPLES = settings(max_examples=400, deadline=None)
# Most calls that are drawn have no template; with some seeds so many that hypothesis would give up.
FEWER = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def general(asked: SmallCall) -> Call:
    return build(asked.method, *asked.operands, **asked.options)


def repeated(asked: SmallCall) -> tuple[RequestTemplate, list[Any]] | None:
    """The template, once it may be there."""
    for _ in range(2):
        recall(*asked, SMALL_BYTES)
    return recall(*asked, SMALL_BYTES)


@st.composite
def twice(draw: st.DrawFn) -> tuple[SmallCall, SmallCall]:
    """A call that has a template, and one like it with other numbers."""
    asked = draw(small_calls())
    assume(isinstance(outcome(lambda: repeated(asked)), tuple) and outcome(lambda: general(asked)).__class__ is Call)

    def other(value: Any) -> Any:
        return value[..., ::-1].copy() if isinstance(value, np.ndarray) and value.ndim else value

    operands, options = map(other, asked.operands), asked.options.items()
    return asked, SmallCall(asked.method, tuple(operands), {name: other(value) for name, value in options})


@EXAMPLES
@given(small_calls())
def test_a_request_is_the_same(asked: SmallCall) -> None:
    """Its bytes, or its error: the first time, the second, when the template is made, and from then on."""
    expected = outcome(lambda: general(asked).body())

    for _ in range(4):
        found = outcome(lambda: recall(*asked, SMALL_BYTES))
        if found is None:
            continue
        if isinstance(expected, bytes):
            template, parts = found
            assert b"".join(parts) == expected
            assert template.body_bytes == len(expected)
            assert template.nbytes == general(asked).nbytes
        else:
            assert found == expected


@EXAMPLES
@given(small_calls())
def test_plain_calls_have_templates(asked: SmallCall) -> None:
    """Of numpy's own arrays, as the wire has their dtypes, and options that can be compared; no others have."""
    call = outcome(lambda: general(asked))
    assume(isinstance(call, Call))
    values = [*asked.operands, *asked.options.values()]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    others = [value for value in values if not isinstance(value, np.ndarray)]
    plain = (
        len(arrays) == len(call.operands)
        and all(type(one) is np.ndarray and one.dtype.str[0] != ">" for one in arrays)
        and not any(one.dtype.name in ("uint16", "uint32", "uint64") for one in arrays)
        and all(type(one) in (bool, int, float, str, tuple, type(None)) for one in others)
    )

    assert (repeated(asked) is not None) == plain


@FEWER
@given(twice(), st.integers(0, 1 << 40))
def test_a_result_is_the_same(numba: Backend, asked: tuple[SmallCall, SmallCall], ns: int) -> None:
    """In all that can be seen of it: of the answer that the template is learned from, and of those after it."""
    found = repeated(asked[0])
    assert found is not None
    template = found[0]
    for one, compute_ns in [(asked[0], 1), (asked[1], ns), (asked[0], ns), (asked[1], 0)]:
        call = general(one)
        body = answered(numba, call, compute_ns)
        if body is None:
            continue
        expected = results.read_result(call, body, 0.5)

        assert told(template.read(body, 0.5)) == told(expected)
        assert template.answer is not None


@FEWER
@given(twice(), st.data())
def test_a_damaged_answer_is_read_the_same(
    numba: Backend, asked: tuple[SmallCall, SmallCall], data: st.DataObject
) -> None:
    """Or refused by the same error."""
    found = repeated(asked[0])
    assert found is not None
    template, call = found[0], general(asked[0])
    body = answered(numba, call)
    assume(body is not None)
    assert body is not None
    template.read(body, 0.5)
    for _ in range(20):
        damaged = bytearray(body)
        # Mostly near the end, where the lengths differ from answer to answer.
        at = data.draw(st.one_of(st.integers(0, len(body)), st.integers(max(0, len(body) - 40), len(body))))
        much = data.draw(st.integers(0, 3))
        damaged[at : at + much] = data.draw(st.binary(max_size=3))
        whole = bytes(damaged)

        assert both(partial(template.read, whole, 0.5)) == both(partial(results.read_result, call, whole, 0.5))


@pytest.mark.parametrize("tag", [b"\x12", b"\x1a", b"\x22"])
def test_an_answer_with_a_tensor_that_nobody_asked_for(numba: Backend, tag: bytes) -> None:
    """Without a dtype, as a later server's might be: what is known of the answer is read, by a template or without."""
    asked = SmallCall("self_information", (np.zeros(1, np.float32),), {})
    found = repeated(asked)
    assert found is not None
    template, call = found[0], general(asked)
    body = answered(numba, call)
    assert body is not None
    strange = body.replace(b"2\x14", tag + b"\x14", 1)
    assert strange != body

    for _ in range(2):
        assert both(partial(template.read, strange, 0.5)) == both(partial(results.read_result, call, strange, 0.5))


def both(read: Callable[[], Result[Any]]) -> Any:
    """What is told of a result, or its error."""
    return outcome(lambda: told(read()))


@FEWER
@given(st.lists(twice(), min_size=1, max_size=4))
def test_a_stream_says_and_hears_the_same(numba: Backend, asked: list[tuple[SmallCall, SmallCall]]) -> None:
    """In one message with others, some of which failed."""
    calls = [one for pair in asked for one in pair]
    ways: list[list[SmallEvaluation]] = [[], []]
    for one in calls:
        found = repeated(one)
        if found is None:
            continue
        ways[0].append(SmallEvaluation(general(one), [b"", general(one).body()], 0.25))
        ways[1].append(SmallEvaluation(*found, 0.25))
    exchanges = [Exchange(0), Exchange(0)]
    for exchange, evaluations in zip(exchanges, ways, strict=True):
        for evaluation in evaluations:
            exchange.add(evaluation)
    sent = [exchange.next_message() for exchange in exchanges]

    assert sent[0] == sent[1]

    body = answer_of(numba, sent[0] or b"")
    ended = [exchange.receive(body, 1.0) for exchange in exchanges]
    assert [len(one) for one in ended] == [len(ways[0])] * 2
    for left, right in zip(*ways, strict=True):
        assert both(left.result) == both(right.result)


def answer_of(backend: Backend, message: bytes) -> bytes:
    """What a server says to a message of many Opens."""
    answer = service_pb2.StreamResponse()
    for one in service_pb2.StreamRequest.FromString(message).opens.opens:
        field = str(one.WhichOneof("request"))
        request: Any = getattr(one, field)
        result = answer.results.results.add(evaluation_id=one.evaluation_id)
        body = answered(backend, _Sent(request))  # type: ignore[arg-type]  # as much of a call as is asked
        if body is None:
            result.failure.MergeFrom(service_pb2.Failure(evaluation_id=one.evaluation_id, code=3, message="wrong"))
        else:
            getattr(result, field).MergeFromString(body)
    return answer.SerializeToString()


class _Sent:
    def __init__(self, request: Any) -> None:
        self.rpc = request.DESCRIPTOR.name.removesuffix("Request")
        self.body = request.SerializeToString

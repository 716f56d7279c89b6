"""What is said on a stream, without one."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.request.build import build
from lossd.routing import block_plan
from lossd.routing.route import Route
from lossd.streaming import exchange
from lossd.streaming.evaluation import Evaluation
from lossd.streaming.exchange import Exchange
from lossd.v1 import service_pb2, tensor_pb2
from lossd_server.call.contract import whole_message
from lossd_server.streaming import responses
from lossd_server.streaming.session_rules import end_missing
from tests.server.memory_front import MemoryCall

X = np.arange(40, dtype=np.float32).reshape(10, 4)


def small(value: float) -> Evaluation:
    return Evaluation(Route(build("entropy", np.full((1, 4), value, np.float32))), 0.0)


def large(x: Any = X, **options: Any) -> Evaluation:
    call = build("entropy", x, **options)
    return Evaluation(Route(call, cut=block_plan.BlockPlan(len(x), 4, ("input",), 16)), 0.0)


def said(one: Exchange) -> list[service_pb2.StreamRequest]:
    """All that there is to send."""
    messages = []
    while (message := one.next_message()) is not None:
        messages.append(service_pb2.StreamRequest.FromString(message))
    return messages


def answer(number: int, **fields: Any) -> bytes:
    response = service_pb2.EntropyResponse(
        loss=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, data=bytes(4)), **fields
    )
    result = service_pb2.EvaluationResult(evaluation_id=number, entropy=response)
    return service_pb2.StreamResponse(result=result).SerializeToString()


def block(number: int, first: int, rows: Any) -> bytes:
    gradient = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=rows.shape, data=rows.tobytes())
    result = service_pb2.BlockResult(evaluation_id=number, first_item=first, input_gradient=gradient)
    return service_pb2.StreamResponse(block=result).SerializeToString()


def test_what_waits_together_is_said_together() -> None:
    """Up to a number of evaluations, and around the large ones, which keep their place."""
    one = Exchange(0, [small(0), small(1), large(), *[small(i) for i in range(exchange.MOST_TOGETHER + 1)]])

    messages = said(one)

    kinds = [message.WhichOneof("message") for message in messages]
    assert kinds == ["opens", "open", "block", "block", "block", "end", "opens", "opens"]
    assert [len(message.opens.opens) for message in messages] == [2, 0, 0, 0, 0, 0, exchange.MOST_TOGETHER, 1]
    assert one.next_message() is None
    assert not one.has_unsent


def test_each_evaluation_has_a_number_of_its_own() -> None:
    """In the order in which they are sent."""
    messages = said(Exchange(0, [small(0), large(), small(1)]))

    numbers = [[one.evaluation_id for one in message.opens.opens] for message in messages]
    assert (numbers[0], messages[1].open.evaluation_id, numbers[-1]) == ([1], 2, [3])


def test_a_mapped_file_is_not_read_before_its_block_is_sent(tmp_path: Path) -> None:
    """What changes in the file before that is sent as it then is."""
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    one = Exchange(0, [large(mapped)])
    one.next_message()
    mapped[9] = 7

    sent = b"".join(message.block.input.data for message in said(one))

    assert sent == mapped.tobytes()


def test_an_evaluation_that_failed_is_sent_no_further() -> None:
    """Its other blocks would be for nothing."""
    failing = large()
    one = Exchange(0, [failing, small(1)])
    one.next_message()
    one.next_message()
    failure = service_pb2.Failure(evaluation_id=1, code=3, message="wrong")

    assert one.receive(service_pb2.StreamResponse(failure=failure).SerializeToString(), 1.0) == [failing]
    assert isinstance(failing.outcome, lossd.InvalidArgument)
    assert [message.WhichOneof("message") for message in said(one)] == ["opens"]


def test_an_evaluation_without_its_End_is_an_invalid_argument() -> None:
    """The server's sentence and reason reach the caller as any other refusal's do."""
    evaluation = large()
    one = Exchange(0, [evaluation])
    said(one)
    refusal = end_missing(1)
    answer = responses.stream_response(
        responses.FAILURE, [responses.failure(1, refusal, MemoryCall("/lossd.v1.LossService/Stream"))]
    )
    one.receive(whole_message(answer), 1.0)

    with pytest.raises(lossd.InvalidArgument, match="its End is missing") as caught:
        evaluation.result()
    assert (caught.value.reason, caught.value.field) == ("END_MISSING", "evaluation_id")


def test_blocks_of_an_answer_are_put_together() -> None:
    """Each copied to its place; the time is the caller's."""
    evaluation = large(grad=True)
    one = Exchange(0, [evaluation])
    said(one)

    for first in (0, 4, 8):
        assert one.receive(block(1, first, X[first : first + 4]), 0.5) == []
    assert one.receive(answer(1), 2.5) == [evaluation]
    assert evaluation.result().grad.tobytes() == X.tobytes()
    assert evaluation.result().timing.total_s == 2.5


def test_what_has_ended_is_let_go() -> None:
    """A stream may live on for long: it does not keep the tensors of the last evaluation that was cut."""
    x = X.copy()
    kept = weakref.ref(x)
    one = Exchange(0, [large(x)])
    said(one)
    one.receive(answer(1), 0.5)
    del x
    gc.collect()

    assert kept() is None


@pytest.mark.parametrize(
    "blocks",
    [
        [(4, X[4:8])],
        [(0, X[:4]), (0, X[:4])],
        [(0, X[:4]), (4, X[4:8])],
        [(0, X[:, :3])],
        [(0, np.zeros((12, 4), np.float32))],
    ],
)
def test_blocks_that_are_not_the_whole_are_the_servers_fault(blocks: list[tuple[int, Any]]) -> None:
    """Out of order, twice, too few, too many, or of another shape."""
    one = Exchange(0, [large(grad=True)])
    said(one)

    def take() -> None:
        for first, rows in blocks:
            one.receive(block(1, first, rows), 0.0)
        one.receive(answer(1), 0.0)

    with pytest.raises(lossd.InternalError, match="holds") as caught:
        take()

    assert caught.value.reason == "MALFORMED_ANSWER"


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05\x01"])
def test_what_is_no_answer_is_the_servers_fault(body: bytes) -> None:
    """InternalError."""
    with pytest.raises(lossd.InternalError, match="malformed"):
        Exchange(0).receive(body, 0.0)


def test_an_answer_to_nothing_is_passed_over() -> None:
    """Of an evaluation that failed already, or of a newer server."""
    assert Exchange(0).receive(answer(9), 0.0) == []
    assert Exchange(0).receive(b"", 0.0) == []

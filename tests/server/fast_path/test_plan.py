"""A planned request has the answer of one that is not, to the byte."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.request import build as requests
from lossd.v1 import service_pb2 as pb
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.engine.batch_counts import BatchCounts
from lossd_server.engine.evaluate import evaluate
from lossd_server.fast_path.burst import Burst, address_of_bytes
from lossd_server.fast_path.plan import Plan, plan_of
from lossd_server.fast_path.recall import Recall
from lossd_server.jobs.job import Answer
from lossd_server.metrics import layout
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.tensors import request_fields
from lossd_server.tensors.array import STORAGE
from lossd_server.wire import codec
from tests.conformance.agreement import asked_gradients
from tests.conformance.cases import Asked, Case, every_option, grid
from tests.conformance.losses import LOSSES
from tests.server.messages import cross_entropy
from tests.server.running import details, refused, serving, stub

NO_TIMING = len(b"\x3a\x00")


def reversed_numbers(request: Any) -> bytes:
    """Another request of the same kind: the elements of input and target from the last to the first."""
    other = type(request).FromString(request.SerializeToString())
    for field in ("input", "target"):
        if field in other.DESCRIPTOR.fields_by_name and other.HasField(field):
            tensor = getattr(other, field)
            tensor.data = np.frombuffer(tensor.data, STORAGE[tensor.dtype])[::-1].tobytes()
    body: bytes = other.SerializeToString()
    return body


def planned(backend: Backend, rpc: str, request: Any) -> Plan | None:
    """The plan of a server that has met the request with other numbers."""
    recall = Recall(losses.check, partial(plan_of, backend))
    recall.check(rpc, type(request).FromString(reversed_numbers(request)))
    known = recall.find(rpc, request.SerializeToString())
    return None if known is None else known.plan


def answered(backend: Backend, plan: Plan, body: bytes) -> bytes | None:
    return Burst(backend).answer([(plan, address_of_bytes(body))])[0]


def unplanned(backend: Backend, rpc: str, body: bytes) -> bytes:
    """The response but for its timing, which comes last."""
    (answer,) = evaluate(backend, [losses.check(rpc, request_fields.fields_of(codec.decode(rpc, body)))])
    assert isinstance(answer, Answer)
    return codec.encode(answer, 0, 0, 0, 0)[:-NO_TIMING]


def agree(backend: Backend, case: Case) -> bool:
    """Whether the case was answered by a plan; its bytes are as they should be then."""
    call = requests.build(case.asked.method, *case.asked.tensors, **case.asked.options)
    plan = planned(backend, call.rpc, call.request)
    body: bytes = call.request.SerializeToString()
    if plan is None:
        return False
    answer = answered(backend, plan, body)
    if answer is None:
        return False
    expected = unplanned(backend, call.rpc, body)
    assert answer[: len(expected)] == expected, case.name
    response = getattr(pb, call.rpc + "Response").FromString(answer)
    assert response.timing.batch_requests == 1, case.name
    assert len(answer) <= plan.response_bytes, case.name
    return True


def has_plan(case: Case) -> bool:
    """Targets of counts are converted when they are checked; by-products, the gradient of a class weight, and a base
    whose elements come back are left to `evaluate`, and so is what has no row that counts."""
    options = case.asked.options
    elements = case.asked.method in ("kl_divergence", "self_information") and options.get("reduction") == "none"
    return not (
        options.get("target_kind") == "counts"
        or ("ignore_index" in options and np.all(case.asked.tensors[1] == options["ignore_index"]))
        or "outputs" in options
        or "weight" in asked_gradients(case.asked)
        or ("base" in options and elements)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_planned_answers_are_the_same_bytes(numba: Backend, loss: str) -> None:
    """Of a loss in every reduction × dtype × layout, and with each option, all that can have a plan are answered by
    it, with the bytes of an answer without one."""
    cases = [*grid(loss, "plain"), *every_option(loss)]

    assert [one.name for one in cases if agree(numba, one)] == [one.name for one in cases if has_plan(one)]


def test_a_burst_keeps_what_it_counts_into(numba: Backend) -> None:
    """Whoever made the counts may let go of them: compiled code has their address."""
    request = cross_entropy()
    plan = planned(numba, "CrossEntropy", request)
    assert plan is not None
    metrics = WorkerMetrics()
    memory = weakref.ref(metrics.all.obj)
    burst = Burst(numba, BatchCounts(metrics))
    del metrics
    gc.collect()
    body: bytes = request.SerializeToString()
    assert burst.answer([(plan, address_of_bytes(body))] * 3).count(None) == 0

    words: Any = memory()
    assert words[layout.BATCH_ROWS + layout.histogram_words(layout.ROWS) - 1] == 3 * plan.rows
    del burst, words
    gc.collect()
    assert memory() is None


EXTREMES = {
    "large": [1e4, -1e4, 3e38, -3e38],
    "infinite": [np.inf, 0.0, 1.0, 2.0],
    "not a number": [np.nan, 0.0, 1.0, 2.0],
    "equal": [0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_are_the_same_bytes(numba: Backend, name: str, reduction: str, grad: bool) -> None:
    """So are losses that are infinite, no number or zero."""
    logits = np.array([EXTREMES[name], [0.0, 1.0, 2.0, 3.0]], np.float32)
    asked = Asked("cross_entropy", (logits, np.array([1, 3])), {"reduction": reduction, "grad": grad})

    assert agree(numba, Case(name, "float32", asked))


def test_ignored_rows_are_the_same_bytes(numba: Backend) -> None:
    """Rows that are left out count for nothing; where all are, there is no denominator and so no planned answer."""
    logits = np.arange(8, dtype=np.float32).reshape(2, 4)

    assert agree(numba, Case("", "float32", Asked("cross_entropy", (logits, np.array([-100, 3])), {"grad": True})))
    assert not agree(numba, Case("", "float32", Asked("cross_entropy", (logits, np.array([-100, -100])), {})))


@pytest.mark.parametrize(
    ("method", "good", "bad"),
    [
        (
            "cross_entropy",
            (np.zeros((2, 4), np.float32), np.array([0, 3])),
            (np.zeros((2, 4), np.float32), np.array([0, 4])),
        ),
        ("bce", (np.full(4, 0.5), np.ones(4)), (np.array([0.5, 1.5, 0.5, 0.5]), np.ones(4))),
    ],
)
def test_a_refused_value_is_left_to_evaluate(numba: Backend, method: str, good: Any, bad: Any) -> None:
    """A request with such a value has no planned answer, and the next one's is right."""
    right, wrong = requests.build(method, *good), requests.build(method, *bad)
    plan = planned(numba, right.rpc, right.request)
    assert plan is not None
    body = right.request.SerializeToString()
    expected = unplanned(numba, right.rpc, body)

    assert answered(numba, plan, wrong.request.SerializeToString()) is None
    answer = answered(numba, plan, body)
    assert answer is not None
    assert answer.startswith(expected)


def test_a_server_answers_and_counts_alike(numba: Backend) -> None:
    """Checked, planned or refused: a server's answers to one request say the same, and its counts are those of all."""

    async def run() -> None:
        async with serving(numba) as (server, channel):
            call, wrong = stub(channel).CrossEntropy, cross_entropy()
            wrong.target.data = b"\x09" + bytes(31)
            answers = [await call(cross_entropy()) for _ in range(4)]
            error = await refused(call(wrong))
            answers.append(await call(cross_entropy()))
            for answer in answers:
                answer.timing.queue_ns = answer.timing.compute_ns = 0
            now = await stub(channel).GetServerInfo(pb.GetServerInfoRequest())

            assert all(answer == answers[0] for answer in answers)
            assert details(error)["ErrorInfo"].reason == "CLASS_OUT_OF_RANGE"
            assert (now.statistics.completed, now.statistics.failed) == (5, 1)
            assert now.statistics.rows == 24
            assert (now.statistics.inflight_bytes, now.statistics.inflight_requests) == (0, 0)
            assert len(server.service._intake._recall._seen) == 1

    asyncio.run(run())


def test_an_answer_over_the_clients_bound_is_refused(numba: Backend) -> None:
    """A planned request whose answer would be larger than its client takes is refused as any other."""

    async def run() -> None:
        async with serving(numba) as (_, channel):
            call = stub(channel).CrossEntropy
            for _ in range(3):
                await call(cross_entropy())
            error = await refused(call(cross_entropy(), metadata=(("lossd-max-response-bytes", "9"),)))

            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(error)["ErrorInfo"].reason == "RESPONSE_TOO_LARGE"

    asyncio.run(run())

"""Requests like one before are recalled by their bytes, and nothing but their numbers is taken from them."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pytest

from lossd.request import build as requests
from lossd.request.build import Call
from lossd.v1 import service_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.fast_path.plan import plan_of
from lossd_server.fast_path.recall import ALIKE, HELD_BYTES, Recall
from lossd_server.jobs.job import Job
from lossd_server.tensors import request_fields
from lossd_server.tensors.array import Array
from lossd_server.wire import codec

RNG = np.random.default_rng(7)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Array):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and bool((one.values == other.values).all())
    if isinstance(one, np.ndarray):
        return bool((one == other).all())
    return bool(one == other)


def equal(one: Job, other: Job) -> bool:
    return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(Job))


def memory(**options: Any) -> Recall:
    """A recall that plans nothing."""
    return Recall(losses.check, lambda *_: None, **options)


def logits() -> np.ndarray:
    return RNG.normal(size=(4, 6)).astype(np.float32)


MAKERS = {
    "indices": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4), label_smoothing=0.1),
    "narrow indices": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4).astype(np.int8)),
    "weights": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4), weight=np.arange(6.0)),
    "distribution": lambda: requests.build("cross_entropy", logits(), RNG.random((4, 6)), grad=True),
    "float16": lambda: requests.build("entropy", RNG.random((4, 6)).astype(np.float16), base=2.0),
}


def bytes_of(call: Call) -> bytes:
    body: bytes = call.request.SerializeToString()
    return body


@pytest.mark.parametrize("name", MAKERS)
def test_a_recalled_job_is_the_checked_one(name: str) -> None:
    """Recalled or checked afresh, a request becomes the same job."""
    recall = memory()
    call = MAKERS[name]()
    recall.check(call.rpc, call.request)
    for _ in range(3):
        body = bytes_of(MAKERS[name]())
        known = recall.find(call.rpc, body)

        assert known is not None
        assert equal(known.again(body), losses.check(call.rpc, request_fields.fields_of(codec.decode(call.rpc, body))))


@pytest.mark.parametrize("at", range(len(bytes_of(MAKERS["weights"]()))))
def test_a_byte_that_says_something_is_compared(at: int) -> None:
    """A request with another byte is recalled where that is an element of input or target, and nowhere else."""
    recall = memory()
    call = MAKERS["weights"]()
    body = bytearray(bytes_of(call))
    recall.check(call.rpc, call.request)
    body[at] ^= 1
    request: Any = call.request
    x, y = request.input.data, request.target.data
    number = any(begin <= at < begin + len(data) for data in (x, y) for begin in (bytes_of(call).index(data),))

    assert (recall.find(call.rpc, bytes(body)) is not None) == number


def test_other_rpcs_and_lengths_are_others() -> None:
    """A request is recalled for its own RPC and length only."""
    recall = memory()
    call = MAKERS["indices"]()
    body = bytes_of(call)
    recall.check("CrossEntropy", call.request)

    assert recall.find("NLL", body) is None
    assert recall.find("CrossEntropy", body[:-1]) is None
    assert recall.find("CrossEntropy", body + b"\0") is None


def twice(request: pb.CrossEntropyRequest) -> bytes:
    """Its input's elements come again, behind all else: the second ones count."""
    again = pb.CrossEntropyRequest(input=tensor_pb2.Tensor(data=request.input.data))
    return request.SerializeToString() + again.SerializeToString()


def backwards(request: pb.CrossEntropyRequest) -> bytes:
    """Its target comes first."""
    first = pb.CrossEntropyRequest(target=request.target).SerializeToString()
    rest = pb.CrossEntropyRequest(input=request.input).SerializeToString()
    return first + rest


@pytest.mark.parametrize("write", [twice, backwards])
def test_only_requests_written_as_usual_are_recalled_by_their_bytes(write: Any) -> None:
    """A message whose tensors are not where the generated class puts them is parsed; what it means is what counts."""
    recall = memory()
    body = write(requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4)).request)
    jobs = [recall.check("CrossEntropy", pb.CrossEntropyRequest.FromString(body)) for _ in range(2)]

    assert recall.find("CrossEntropy", body) is None
    assert equal(*jobs)


@pytest.mark.parametrize(
    "call",
    [
        requests.build("bce_with_logits", logits(), RNG.random((4, 6)) > 0.5),
        requests.build("entropy", RNG.integers(1, 9, (4, 6)), kind="counts"),
        requests.build("cross_entropy", np.zeros((0, 6), np.float32), np.zeros(0, np.int64)),
        requests.build("cross_entropy", np.zeros((256, 256), np.float32), np.zeros(256, np.int64)),
    ],
    ids=["converted target", "converted input", "empty", "large"],
)
def test_what_a_check_converts_is_checked_again(call: Call) -> None:
    """A request whose tensors are not used as they were sent is not recalled, nor is an empty or a large one."""
    recall = memory()
    recall.check(call.rpc, call.request)

    assert recall.find(call.rpc, bytes_of(call)) is None


def test_the_memory_is_bounded() -> None:
    """More kinds of request than the capacity are all answered, and no more than it are kept; of one length, a few."""
    recall = memory(capacity=20)
    by_length, of_one_length = [], []
    for n in range(1, 60):
        by_length.append(recall.check("Entropy", requests.build("entropy", np.full(n, 1.0)).request))
        assert sum(map(len, recall._seen.values())) <= 20
    for n in range(1, 60):
        of_one_length.append(recall.check("Entropy", requests.build("entropy", np.full(3, 1.0), base=1.0 + n).request))
        assert all(1 <= len(alike) <= ALIKE for alike in recall._seen.values())
        assert sum(map(len, recall._seen.values())) <= 20

    assert [job.layout.classes for job in by_length] == list(range(1, 60))
    assert [job.reducing.log_base for job in of_one_length] == [math.log(1.0 + n) for n in range(1, 60)]


def narrow(rows: int, **options: Any) -> Call:
    """Elements of two bytes, and indices of one."""
    return requests.build("cross_entropy", np.zeros((rows, 2), np.float16), np.zeros(rows, np.int8), **options)


# Requests of any number, whose memory is of different things: objects, numbers, widened indices, losses, gradients.
KINDS: dict[str, Callable[[int], Call]] = {
    "small": lambda n: requests.build("cross_entropy", np.zeros((8, 16 + n), np.float32), np.zeros(8, int), grad=True),
    "wide": lambda n: requests.build("cross_entropy", np.zeros((8, 1500 + n), np.float32), np.zeros(8, int), grad=True),
    "narrow": lambda n: narrow(8000 + n, grad=True, reduction="none"),
    "elements": lambda n: requests.build("bce", np.full(15000 + n, 0.5, np.float16), np.zeros(15000 + n, np.float16)),
    "rows": lambda n: requests.build("entropy", np.ones((25000 + n, 1), np.float16), grad=True, reduction="none"),
    "divergences": lambda n: requests.build("kl_divergence", np.zeros((2, 2000 + n)), np.full((2, 2000 + n), 0.1)),
}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_is_counted(numba: Backend, kind: str, planned: bool) -> None:
    """However many requests come: all memory that they keep, that of their plans too, is counted, and is bounded."""
    recall = Recall(losses.check, partial(plan_of, numba))

    def remember(numbers: range) -> None:
        for number in numbers:
            call = KINDS[kind](number)
            recall.check(call.rpc, call.request)
            if planned:
                recall.find(call.rpc, bytes_of(call))

    remember(range(1))  # what is made once for all
    tracemalloc.start()
    before, counted = tracemalloc.get_traced_memory()[0], recall.held_bytes
    remember(range(1, 30))
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0 < held <= recall.held_bytes - counted
    for number in range(30, 400):
        remember(range(number, number + 1))
        assert recall.held_bytes <= HELD_BYTES


def test_a_plan_is_made_once_when_a_request_comes_again() -> None:
    """The planner is asked when a request is met the second time, and never again."""
    asked: list[Any] = []
    recall = Recall(losses.check, lambda *of: asked.append(of))
    call = MAKERS["indices"]()
    body = bytes_of(call)
    recall.check("CrossEntropy", call.request)
    counts = []
    for _ in range(3):
        counts.append(len(asked))
        recall.find("CrossEntropy", body)

    assert counts == [0, 1, 1]

"""Requests like one before are recalled, and nothing but their numbers is taken from them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from lossd import requests
from lossd.v1 import service_pb2 as pb
from lossd_server import losses
from lossd_server.array import Array
from lossd_server.errors import InvalidRequest
from lossd_server.job import Job
from lossd_server.recall import Recall

RNG = np.random.default_rng(7)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Array):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and bool((one.values == other.values).all())
    if isinstance(one, np.ndarray):
        return bool((one == other).all())
    return bool(one == other)


def equal(one: Job, other: Job) -> bool:
    return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(Job))


def logits() -> np.ndarray:
    return RNG.normal(size=(4, 6)).astype(np.float32)


MAKERS = {
    "indices": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4), label_smoothing=0.1),
    "narrow indices": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4).astype(np.int8)),
    "weights": lambda: requests.build("cross_entropy", logits(), RNG.integers(0, 6, 4), weight=np.arange(6.0)),
    "distribution": lambda: requests.build("cross_entropy", logits(), RNG.random((4, 6)), grad=True),
    "float16": lambda: requests.build("entropy", RNG.random((4, 6)).astype(np.float16), base=2.0),
    "bool target": lambda: requests.build("bce_with_logits", logits(), RNG.random((4, 6)) > 0.5),
    "counts": lambda: requests.build("entropy", RNG.integers(1, 9, (4, 6)), kind="counts"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_recalled_job_is_the_checked_one(name: str) -> None:
    """Recalled or checked afresh, a request becomes the same job."""
    recall = Recall()
    for _ in range(3):
        call = MAKERS[name]()
        body = call.request.SerializeToString()
        fresh = losses.check(call.rpc, type(call.request).FromString(body))

        assert equal(recall.check(call.rpc, type(call.request).FromString(body)), fresh)


def test_other_lengths_are_refused_as_ever() -> None:
    """A request that says what an accepted one said, with fewer bytes, is refused."""
    recall = Recall()
    body = MAKERS["indices"]().request.SerializeToString()
    recall.check("CrossEntropy", pb.CrossEntropyRequest.FromString(body))
    request = pb.CrossEntropyRequest.FromString(body)
    request.input.data = request.input.data[:-4]

    with pytest.raises(InvalidRequest) as caught:
        recall.check("CrossEntropy", request)
    assert caught.value.reason == "LENGTH_MISMATCH"


def test_values_that_a_check_looks_at_are_looked_at_again() -> None:
    """A bool byte that is neither 0 nor 1 is refused although its request was accepted before."""
    recall = Recall()
    body = MAKERS["bool target"]().request.SerializeToString()
    recall.check("BCEWithLogits", pb.BCEWithLogitsRequest.FromString(body))
    request = pb.BCEWithLogitsRequest.FromString(body)
    request.target.data = b"\2" * 24

    with pytest.raises(InvalidRequest):
        recall.check("BCEWithLogits", request)


def test_the_memory_is_bounded() -> None:
    """More kinds of request than the capacity are all answered."""
    recall = Recall(capacity=2)
    jobs = [recall.check("Entropy", requests.build("entropy", np.full(n, 1.0)).request) for n in range(1, 9)]

    assert [job.layout.classes for job in jobs] == list(range(1, 9))
    assert len(recall._seen) <= 2

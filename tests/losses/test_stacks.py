"""Requests that are alike, computed as one: each has the bits that it has alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.stacks import stackable, stacked
from lossd_server.losses import check
from lossd_server.streaming import responses
from lossd_server.wire import codec
from tests.losses.messages import WIRE, tensor

RNG = np.random.default_rng(4)
KINDS = (loss_pb2.KIND_LOGITS, loss_pb2.KIND_PROBABILITIES, loss_pb2.KIND_COUNTS)


def like(number: int, **fields: Any) -> list[Any]:
    """Cross-entropies of 5 rows of 7 classes."""
    return [
        pb.CrossEntropyRequest(
            input=tensor(RNG.normal(size=(5, 7))), target=tensor(RNG.integers(0, 7, 5), "int32"), **fields
        )
        for _ in range(number)
    ]


def distributions(number: int, **fields: Any) -> list[Any]:
    return [
        pb.CrossEntropyRequest(
            input=tensor(RNG.normal(size=(5, 7, 2)), "float64"),
            target=tensor(RNG.dirichlet(np.ones(7), (5, 2)).swapaxes(1, 2), "float64"),
            **fields,
        )
        for _ in range(number)
    ]


def entropies(number: int, kind: Any) -> list[Any]:
    return [
        pb.EntropyRequest(input=tensor(RNG.uniform(size=9)), kind=kind, base=2.0, gradients=[loss_pb2.GRADIENT_INPUT])
        for _ in range(number)
    ]


def job_of(request: Any) -> Job:
    rpc = request.DESCRIPTOR.name.removesuffix("Request")
    return check(rpc, codec.decode_fields(rpc, request.SerializeToString()))


GRADIENTS: dict[str, Any] = {"gradients": [loss_pb2.GRADIENT_INPUT]}
BOTH: dict[str, Any] = {"gradients": [loss_pb2.GRADIENT_INPUT, loss_pb2.GRADIENT_TARGET]}
ASKED: dict[str, list[Any]] = {
    "loss": like(9),
    "gradient": like(9, **GRADIENTS),
    "sum": like(3, reduction=loss_pb2.REDUCTION_SUM, **GRADIENTS),
    "normalizer": like(4, normalizer=3.0, **GRADIENTS),
    "smoothing": like(4, label_smoothing=0.2, base=10.0, **GRADIENTS),
    "distributions": distributions(6, **BOTH),
    **{f"entropy of {loss_pb2.Kind.Name(kind)}": entropies(5, kind) for kind in KINDS},
}


@pytest.mark.parametrize("name", ASKED)
def test_each_is_what_it_is_alone(numba: Backend, name: str) -> None:
    """Loss, gradients and summary of every request of a stack have the bits of its own evaluation."""
    requests = ASKED[name]
    jobs = [job_of(one) for one in requests]
    assert stackable(jobs[0])
    targeted = requests[0].DESCRIPTOR.name != "EntropyRequest"
    targets = [one.target.data if targeted else b"" for one in requests]
    dtype = requests[0].target.dtype if targeted else 0
    made = stacked(jobs[0], [one.input.data for one in requests], targets, dtype)
    assert made is not None
    (together,) = evaluate(numba, [made[0]], [made[1]])
    assert isinstance(together, Answer)

    ids = list(range(120, 120 + len(jobs)))  # of one byte and of two
    found = [pb.EvaluationResult.FromString(one) for one in responses.stacked_results(ids, 3, together, 1, 2, 3, 4)]
    assert [one.evaluation_id for one in found] == ids
    for one, job in zip(found, jobs, strict=True):
        (alone,) = evaluate(numba, [job])
        assert isinstance(alone, Answer)
        expected = pb.CrossEntropyResponse.FromString(codec.encode(alone, 1, 2, 3, 4))
        assert one.cross_entropy == expected


@pytest.mark.parametrize(
    "targets", [[[0, 1, 2], [0, -100, 2]], [[0, 1, 2], [0, 1, 9]], [[-100] * 3] * 2], ids=["kept", "range", "none"]
)
def test_those_with_their_own_denominators_are_not_stacked(targets: list[list[int]]) -> None:
    """Different kept rows, a label out of range and no kept row at all are taken one by one."""
    inputs = [tensor(np.zeros((3, 4))) for _ in targets]
    labels = [tensor(one, "int64") for one in targets]
    first = job_of(pb.CrossEntropyRequest(input=inputs[0], target=labels[0]))
    made = stacked(first, [one.data for one in inputs], [one.data for one in labels], WIRE["int64"])

    assert made is None


def test_what_has_more_than_a_sum_is_not_stacked() -> None:
    """Losses of rows, row weights, outputs and elementwise losses stay apart."""
    plain: dict[str, Any] = {"input": tensor(np.ones((3, 4))), "target": tensor(np.zeros(3), "int64")}
    others = [
        pb.CrossEntropyRequest(**plain, reduction=loss_pb2.REDUCTION_NONE),
        pb.CrossEntropyRequest(**plain, row_weight=tensor(np.ones(3))),
        pb.CrossEntropyRequest(**plain, outputs=[loss_pb2.OUTPUT_LSE]),
        pb.BCERequest(input=tensor(np.ones(3)), target=tensor(np.ones(3))),
    ]

    assert [stackable(job_of(one)) for one in others] == [False] * 4

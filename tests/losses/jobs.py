"""Small jobs, and their answers from the CPU backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import service_pb2 as service
from lossd.v1.loss_pb2 import GRADIENT_INPUT
from lossd_server.backends.numba import NumbaBackend
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Answer, Computed, Job, JobSummary, Launch
from tests.losses.checked import check
from tests.losses.messages import tensor

LOGITS = np.random.default_rng(1).normal(size=(6, 5))
TARGET = np.array([0, 4, 2, -100, 1, 2])


class Recording(NumbaBackend):
    """The CPU backend on the caller's thread; `launched` is what it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.launched: list[Launch] = []

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.launched += launches
        return super().run(launches)


def cross_entropy(logits: Any = LOGITS, target: Any = TARGET, weight: Any = None, **fields: Any) -> Job:
    """A float64 job; its input's gradient is asked for."""
    request = service.CrossEntropyRequest(
        input=tensor(logits, "float64"),
        target=tensor(target, "int64"),
        gradients=[GRADIENT_INPUT],
        **fields,
    )
    if weight is not None:
        request.weight.CopyFrom(tensor(weight, "float64"))
    return check("CrossEntropy", request)


def counts(values: Any, **fields: Any) -> Job:
    return check("Entropy", service.EntropyRequest(input=tensor(values), kind=4, **fields))  # type: ignore[arg-type]


def bce(p: Any, t: Any, **fields: Any) -> Job:
    return check("BCE", service.BCERequest(input=tensor(p), target=tensor(t), **fields))


def answer(job: Job) -> Answer:
    """The job's answer, alone."""
    (only,) = evaluate(Recording(), [job])
    assert isinstance(only, Answer), only
    return only


def refusal(job: Job) -> InvalidRequest:
    """The refusal that the job's values get."""
    (only,) = evaluate(Recording(), [job])
    assert isinstance(only, InvalidRequest)
    return only


def summary(result: Answer) -> JobSummary:
    """What a loss's answer is made of: every loss has one."""
    assert result.summary is not None
    return result.summary


def close(actual: npt.NDArray[Any] | float | None, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Asserts that `actual` is there, and what is expected."""
    assert actual is not None
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)

"""Jobs become answers: what comes before the kernels (denominators, scales) and after them (faults, ordered sums)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server import reduce
from lossd_server.array import STORAGE, Array, gradient_dtype
from lossd_server.backends import Backend
from lossd_server.errors import ServerError
from lossd_server.job import Answer, Computed, Fault, Formula, Job, Launch, Reduction, Summary
from lossd_server.losses.faults import refusal
from lossd_server.reduce import ClassOutOfRange, Kept, gradient_scale, kept, ordered_sum, read_only, reduced


def evaluate(backend: Backend, jobs: Sequence[Job]) -> list[Answer | ServerError]:
    """One answer a job, in order; one backend run for all. A job whose values are refused costs the others nothing.

    What `backend.run` raises passes through: it is the whole batch's.
    """
    answers: list[Answer | ServerError | None] = [None] * len(jobs)
    launches: list[Launch] = []
    waiting: list[tuple[int, Kept]] = []
    with np.errstate(over="ignore", invalid="ignore"):  # a sum beyond float32 is an infinite loss, no warning
        for position, job in enumerate(jobs):
            try:
                denominator = kept(job)
            except ClassOutOfRange as found:
                answers[position] = refusal(job, Fault.CLASS_OUT_OF_RANGE, found.row)
                continue
            if job.layout.elements == 0:
                answers[position] = _finish(job, denominator, _of_nothing(job))
                continue
            launches.append(Launch(job, gradient_scale(job, denominator)))
            waiting.append((position, denominator))
        results = backend.run(launches) if launches else []
        for (position, denominator), launch, computed in zip(waiting, launches, results, strict=True):
            answers[position] = _finish(launch.job, denominator, computed)
    return [answer for answer in answers if answer is not None]


def warm_up(backend: Backend, report: Callable[[str], None]) -> None:
    """Compiles or loads all that `evaluate` calls, the backend's kernels included, telling `report` one line a step."""
    report("preparing sums and denominators")
    reduce.warm_up()
    backend.warm_up(report)


def _finish(job: Job, denominator: Kept, computed: Computed) -> Answer | ServerError:
    if computed.fault is not None:
        return refusal(job, *computed.fault)
    sums = computed.chunk_sums if job.formula.elementwise else computed.losses
    assert sums is not None
    per_nat = job.reducing.per_nat
    loss_sum = ordered_sum(read_only(sums), 0.0) * per_nat
    if job.reducing.reduction is Reduction.NONE:
        assert computed.losses is not None
        loss = _unreduced(computed.losses, per_nat, job)
    else:
        loss = np.array(reduced(job, loss_sum, denominator), job.compute)
    summary = Summary(loss_sum, denominator.weight_sum, denominator.count)
    return Answer(job, loss, computed.input_gradient, computed.target_gradient, summary)


def _unreduced(losses: npt.NDArray[Any], per_nat: float, job: Job) -> npt.NDArray[Any]:
    if per_nat != 1.0:
        losses = np.multiply(losses, per_nat, dtype=np.float64)
    return losses.astype(job.compute, copy=False).reshape(job.loss_shape)


def _of_nothing(job: Job) -> Computed:
    """The result of an input without elements: backends never see one. Rows of no class have the empty sum, 0."""
    if job.formula is Formula.ENTROPY_COUNTS and job.layout.rows:
        return Computed(fault=(Fault.EMPTY_COUNTS, 0))
    return Computed(
        losses=np.zeros(0 if job.formula.elementwise else job.layout.rows, job.compute),
        chunk_sums=np.zeros(0) if job.formula.elementwise else None,
        input_gradient=_empty(job.input) if job.input_gradient else None,
        target_gradient=_empty(job.target) if job.target_gradient and job.target is not None else None,
    )


def _empty(operand: Array) -> npt.NDArray[Any]:
    return np.empty(0, STORAGE[gradient_dtype(operand.dtype)])

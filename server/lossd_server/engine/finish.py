"""Finish of an evaluation: ordered sums, reduction, and answers from what kernels computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import gradient_dtype
from lossd_server.errors import ServerError
from lossd_server.jobs.gradient_placement import delivered
from lossd_server.jobs.job import Answer, Computed, Fault, Formula, Job, JobSummary, Kind, Launch, Reduction
from lossd_server.jobs.partial_results import Carry
from lossd_server.jobs.reduction import Denominator, ordered_sum, read_only, reduced, summed_on, whole_sum
from lossd_server.jobs.stacks import Stack, unstack
from lossd_server.losses.value_errors import value_error
from lossd_server.tensors.array import STORAGE, Array
from lossd_server.tensors.dtypes import narrowed

# Outputs that are of the loss's dtype.
MEASURES = frozenset({"lse", "entropy"})
# The outputs of a row without classes.
OF_NO_CLASS: dict[str, tuple[float, type[np.generic]]] = {
    "lse": (float("-inf"), np.float64),
    "entropy": (0.0, np.float64),
    "argmax": (-1, np.int64),
    "correct": (0, np.uint8),
}

NO_LOSS: npt.NDArray[Any] = np.empty(())  # of a part whose losses are added up
BEYOND_FLOAT32 = 2.0**128 - 2.0**103  # rounds to infinity


@dataclass(frozen=True, slots=True)
class Launched:
    """A job in the backend, and what its answer will need. carry: of a part, or the stack that it is."""

    launch: Launch
    denominator: Denominator
    carry: Carry | Stack | None


def finish(launched: Launched, computed: Computed) -> Answer | ServerError:
    """A job's answer from what the backend gave."""
    job, carry = launched.launch.job, launched.carry
    if computed.fault is not None:
        return value_error(job, *computed.fault)
    if isinstance(carry, Stack):
        return unstack(job, carry, computed)
    return delivered(_answer(job, launched.denominator, computed, carry))


def answer_of_parts(job: Job, carry: Carry, parts: Answer | None = None) -> Answer:
    """The answer of a job whose parts have all been computed. parts: with what they gave, where that is kept."""
    bare = Answer(replace(job, outputs=frozenset()), NO_LOSS, None, None, None)
    if job.formula.activation:
        return parts or bare
    loss_sum = whole_sum(carry.loss_total, carry.loss_lost) / job.reducing.log_base
    summary = JobSummary(loss_sum, carry.kept.weight_sum, carry.kept.count)
    answer = parts or bare
    if job.reducing.reduction is not Reduction.NONE:
        answer = replace(answer, loss=_scalar(reduced(job, loss_sum, carry.kept), job.compute))
    gradient = None
    if job.weight_gradient:
        total = carry.weight_gradient
        gradient = _weight_gradient(job, np.zeros(job.layout.classes) if total is None else total)
    return delivered(replace(answer, summary=summary, weight_gradient=gradient, carry=None))


def of_nothing(job: Job) -> Computed:
    """The result of an input without elements: backends never see one. Rows of no class have the empty sum, 0."""
    layout = job.layout
    if layout.rows and (job.formula is Formula.ENTROPY_COUNTS or job.input_kind is Kind.COUNTS):
        return Computed(fault=(Fault.EMPTY_COUNTS, 0))
    rows = 0 if job.formula.elementwise else layout.rows
    return Computed(
        losses=np.zeros(rows, job.compute),
        chunk_sums=np.zeros(0) if job.formula.elementwise else None,
        input_gradient=_empty(job.input) if job.input_gradient else None,
        target_gradient=_empty(job.target) if job.target_gradient and job.target is not None else None,
        values=np.empty(0, job.input.values.dtype if job.formula.activation else job.compute),
        outputs={name: np.full(rows, value, dtype) for name, (value, dtype) in OF_NO_CLASS.items()},
        weight_gradient=np.zeros(layout.classes) if job.weight_gradient else None,
    )


def _answer(job: Job, denominator: Denominator, computed: Computed, carry: Carry | None) -> Answer:
    if job.formula.activation:
        assert computed.values is not None
        return Answer(job, computed.values, computed.input_gradient, None, None, carry=carry)
    sums = computed.chunk_sums if job.formula.elementwise else computed.losses
    assert sums is not None
    if carry is not None:
        return _part(job, denominator, computed, read_only(sums), carry)
    log_base = job.reducing.log_base
    loss_sum = ordered_sum(read_only(sums), 0.0) / log_base
    if job.reducing.reduction is Reduction.NONE:
        loss = _unreduced(computed, log_base, job)
    else:
        loss = _scalar(reduced(job, loss_sum, denominator), job.compute)
    summary = JobSummary(loss_sum, denominator.weight_sum, denominator.count)
    answer = Answer(job, loss, computed.input_gradient, computed.target_gradient, summary)
    if job.outputs or job.weight_gradient:
        gradient = None if computed.weight_gradient is None else _weight_gradient(job, computed.weight_gradient)
        answer = replace(answer, outputs=_outputs(job, computed), weight_gradient=gradient)
    return answer


def _part(job: Job, denominator: Denominator, computed: Computed, sums: npt.NDArray[Any], carry: Carry) -> Answer:
    total, lost = summed_on(sums, carry.loss_total, carry.loss_lost)
    return Answer(
        job,
        _unreduced(computed, job.reducing.log_base, job) if job.reducing.reduction is Reduction.NONE else NO_LOSS,
        computed.input_gradient,
        computed.target_gradient,
        None,
        outputs=_outputs(job, computed),
        carry=Carry(carry.scale, denominator, total, lost, computed.weight_gradient),
    )


def _scalar(loss: float, compute: np.dtype[Any]) -> npt.NDArray[Any]:
    """The loss in its dtype: beyond float32 it is infinite, which numpy would warn of."""
    if compute == np.float32 and abs(loss) >= BEYOND_FLOAT32:
        loss = math.copysign(math.inf, loss)
    return np.array(loss, compute)


def _unreduced(computed: Computed, log_base: float, job: Job) -> npt.NDArray[Any]:
    losses = computed.values if job.formula is Formula.KL_ROWS else computed.losses
    assert losses is not None
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 a loss is infinite, no warning
        if log_base != 1.0:
            losses = np.divide(losses, log_base, dtype=np.float64)
        return losses.astype(job.compute, copy=False).reshape(job.loss_shape)


def _outputs(job: Job, computed: Computed) -> dict[str, npt.NDArray[Any]]:
    """Those that were asked for: measures in the loss's dtype, the others as they are."""
    with np.errstate(over="ignore"):
        return {
            name: values.astype(job.compute, copy=False) if name in MEASURES else values
            for name, values in computed.outputs.items()
            if name in job.outputs
        }


def _weight_gradient(job: Job, total: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Rounded once, to its dtype: the scale is in it already."""
    return narrowed(total, job.weight_dtype)


def _empty(operand: Array) -> npt.NDArray[Any]:
    return np.empty(0, STORAGE[gradient_dtype(operand.dtype)])

"""Jobs become answers: what comes before the kernels (denominators, scales) and after them (faults, ordered sums)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import gradient_dtype
from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest, ServerError
from lossd_server.jobs import reduction as reduce
from lossd_server.jobs import stacks
from lossd_server.jobs.gradient_placement import delivered
from lossd_server.jobs.job import Answer, Computed, Fault, Formula, Job, JobSummary, Kind, Launch, Reduction
from lossd_server.jobs.partial_results import Carry
from lossd_server.jobs.reduction import (
    NOTHING,
    ClassOutOfRange,
    Denominator,
    denominator_of,
    gradient_scale,
    ordered_sum,
    read_only,
    reduced,
    summed_on,
    whole_sum,
)
from lossd_server.jobs.stacks import Stack, unstack
from lossd_server.losses.conversion import convert
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


def evaluate(
    backend: Backend, jobs: Sequence[Job], carries: Sequence[Carry | Stack | None] | None = None
) -> list[Answer | ServerError]:
    """One answer a job, in order; one backend run for all. A job whose values are refused costs the others nothing.

    carries: for a job that is a part, what those before it came to; its answer has the losses, gradients and outputs
    of its own items, no summary, and the carry for the next. For a job that is a stack: that.
    What `backend.run` raises passes through: it is the whole batch's.
    """
    answers: list[Answer | ServerError | None] = [None] * len(jobs)
    launches: list[Launch] = []
    waiting: list[tuple[int, Denominator, Carry | Stack | None]] = []
    for position, job in enumerate(jobs):
        carry = carries[position] if carries is not None else None
        if isinstance(carry, Stack):
            launches.append(Launch(job, carry.scale))
            waiting.append((position, NOTHING, carry))
            continue
        try:
            if job.raw:
                job = convert(job)
            denominator = denominator_of(job) if carry is None else denominator_of(job, carry.kept)
        except ClassOutOfRange as found:
            answers[position] = value_error(job, Fault.CLASS_OUT_OF_RANGE, found.row)
            continue
        except InvalidRequest as refused:
            answers[position] = refused
            continue
        if job.layout.elements == 0:
            answers[position] = _placed(_finish(job, denominator, _of_nothing(job), carry))
            continue
        if carry is None:
            launches.append(Launch(job, gradient_scale(job, denominator)))
        else:
            launches.append(Launch(job, carry.scale, carry.weight_gradient))
        waiting.append((position, denominator, carry))
    results = backend.run(launches) if launches else []
    for (position, denominator, carry), launch, computed in zip(waiting, launches, results, strict=True):
        if isinstance(carry, Stack):
            answers[position] = _unstacked(launch.job, carry, computed)
            continue
        answers[position] = _placed(_finish(launch.job, denominator, computed, carry))
    return [answer for answer in answers if answer is not None]


def carry_of_parts(job: Job) -> Carry | ServerError:
    """What the first part of `job` starts from. Of a mean without normalizer the denominator must be known from it."""
    reducing = job.reducing
    graded = job.input_gradient or job.target_gradient or job.weight_gradient
    if not graded or reducing.reduction is not Reduction.MEAN or reducing.normalizer is not None:
        return Carry(gradient_scale(job, NOTHING))
    try:
        return Carry(gradient_scale(job, denominator_of(job)))
    except ClassOutOfRange as found:
        return value_error(job, Fault.CLASS_OUT_OF_RANGE, found.row)


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


def warm_up(backend: Backend, report: Callable[[str], None]) -> None:
    """Compiles or loads all that `evaluate` calls, the backend's kernels included, telling `report` one line a step."""
    report("preparing sums and denominators")
    reduce.warm_up()
    stacks.warm_up()
    backend.warm_up(report)


def _finish(job: Job, denominator: Denominator, computed: Computed, carry: Carry | None) -> Answer | ServerError:
    if computed.fault is not None:
        return value_error(job, *computed.fault)
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


def _unstacked(job: Job, stack: Stack, computed: Computed) -> Answer | ServerError:
    return unstack(job, stack, computed) if computed.fault is None else value_error(job, *computed.fault)


def _placed(answer: Answer | ServerError) -> Answer | ServerError:
    return answer if isinstance(answer, ServerError) else delivered(answer)


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


def _of_nothing(job: Job) -> Computed:
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


def _empty(operand: Array) -> npt.NDArray[Any]:
    return np.empty(0, STORAGE[gradient_dtype(operand.dtype)])

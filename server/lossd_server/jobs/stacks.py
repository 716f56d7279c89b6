"""Stacks: small requests that differ in their numbers only, computed as one job, their rows one below the other.

Each has its own denominator, sum and answer, to the bit what it has alone: rows do not know their neighbours. What
costs the most of a small request, being described, launched and written down, is paid once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.jobs.jit import njit
from lossd_server.jobs.job import Answer, Computed, Formula, Job, Layout, Reduction
from lossd_server.jobs.reduction import (
    BY_CLASS,
    Denominator,
    gradient_scale,
    kept_classes,
    read_only,
    scale_fits,
    summed_on,
    weights_of,
    whole,
)
from lossd_server.tensors.array import STORAGE, Array

NO_WEIGHTS = read_only(np.empty(0))
# Losses with one number a row, which is all that is added up.
STACKED = BY_CLASS | {
    Formula.CROSS_ENTROPY_DISTRIBUTION,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION,
    Formula.ENTROPY_LOGITS,
    Formula.ENTROPY_PROBABILITIES,
    Formula.ENTROPY_COUNTS,
}


@dataclass(frozen=True, slots=True)
class Stack:
    """each: one of the requests; scale, weight_sum and kept: as each of them has them."""

    each: Job
    count: int
    scale: float
    weight_sum: float
    kept: int


@dataclass(frozen=True, slots=True)
class StackSums:
    """The carry of a stack's answer, whose loss has an entry for each request, as has loss_sums, in float64."""

    stack: Stack
    loss_sums: npt.NDArray[np.float64]


def stackable(job: Job) -> bool:
    """Whether requests like this one can be computed as one."""
    return (
        job.formula in STACKED
        and job.reducing.reduction is not Reduction.NONE
        and job.row_weight is None
        and not (job.weight_gradient or job.outputs or job.placed or job.raw)
        and job.layout.elements > 0
    )


def stacked(
    each: Job, inputs: Sequence[bytes], targets: Sequence[bytes], target_dtype: int
) -> tuple[Job, Stack] | None:
    """The one job of requests like `each`. target_dtype: what the targets' numbers were sent as.

    None where they are better taken one by one: their denominators differ, or one of them has none, or a bad label.
    """
    count, layout = len(inputs), each.layout
    values = np.frombuffer(b"".join(inputs), each.input.values.dtype)
    target = None
    if each.target is not None:
        sent = np.frombuffer(b"".join(targets), STORAGE[target_dtype])
        target = Array(
            sent.astype(each.target.values.dtype, copy=False), each.target.dtype, (count, *each.target.shape)
        )
    kept = Denominator(float(layout.rows), layout.rows)
    if each.formula in BY_CLASS:
        assert target is not None
        weight_sum, kept_rows = kept_of_equals(
            read_only(target.values), layout.rows, each.ignore_index, layout.classes, weights_of(each.class_weight)
        )
        if kept_rows <= 0 or weight_sum == 0.0:
            return None
        kept = Denominator(weight_sum, kept_rows)
    scale = gradient_scale(each, kept)
    if not scale_fits(each, scale):
        return None
    job = replace(
        each,
        layout=Layout(layout.outer * count, layout.classes, layout.inner),
        input=Array(values, each.input.dtype, (count, *each.input.shape)),
        target=target,
        loss_shape=(count, *each.loss_shape),
    )
    return job, Stack(each, count, scale, kept.total, kept.count)


def unstack(job: Job, stack: Stack, computed: Computed) -> Answer:
    """The answers of all in one. job: the stack's; computed: without a fault."""
    each = stack.each
    assert computed.losses is not None
    sums = np.empty(stack.count)
    sums_of_each(read_only(computed.losses), sums)
    sums /= each.reducing.log_base
    reducing = each.reducing
    losses = sums
    if reducing.reduction is Reduction.MEAN:
        losses = sums / (stack.weight_sum if reducing.normalizer is None else reducing.normalizer)
    with np.errstate(over="ignore", invalid="ignore"):
        losses = losses.astype(each.compute)
    carry = StackSums(stack, sums)
    return Answer(job, losses, computed.input_gradient, computed.target_gradient, None, carry=carry)


def warm_up() -> None:
    """Compiles, or loads, what the functions here call."""
    kept_of_equals(read_only(np.zeros(1, np.int64)), 1, -100, 1, read_only(np.ones(1)))
    for dtype in (np.float32, np.float64):
        sums_of_each(read_only(np.ones(1, dtype)), np.empty(1))


@njit
def kept_of_equals(
    target: npt.NDArray[np.int64],
    rows: int,
    ignore_index: int,
    classes: int,
    class_weight: npt.NDArray[np.float64],
) -> tuple[float, int]:
    """(weight_sum, kept rows) where it is the same for every request of `rows` labels; (0, −1) where it is not, or a
    label is no class."""
    same_sum, same_count = 0.0, -1
    for first in range(0, target.shape[0], rows):
        wrong, total, lost, count = kept_classes(
            target[first : first + rows], ignore_index, classes, class_weight, NO_WEIGHTS, 0.0, 0.0
        )
        weight_sum = whole(total, lost)
        if wrong >= 0 or (same_count >= 0 and (count != same_count or weight_sum != same_sum)):
            return 0.0, -1
        same_sum, same_count = weight_sum, count
    return same_sum, same_count


@njit
def sums_of_each(values: npt.NDArray[Any], sums: npt.NDArray[np.float64]) -> None:
    """sums[i] is the sum of the i-th of equal ranges of `values`, as `reduction.ordered_sum` adds it."""
    each = values.shape[0] // sums.shape[0]
    for i in range(sums.shape[0]):
        sums[i] = whole(*summed_on(values[i * each : (i + 1) * each], 0.0, 0.0))

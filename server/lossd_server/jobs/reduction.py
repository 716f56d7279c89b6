"""Reduction: denominators over the targets, and sums of losses in index order.

Plain loops in float64, in the order of the index: a loss taken whole, in blocks or in a batch has the same bits.
numpy's own sum is pairwise and its order depends on the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.jobs.jit import device_function, njit
from lossd_server.jobs.job import BadValue, Fault, Formula, Job, Reduction

# Formulas whose mean is weighted by the class of every row.
BY_CLASS = frozenset({Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_KINDS_INDEX, Formula.NLL})
# Formulas with one loss an element, whichever way they are computed.
BY_ELEMENT = frozenset(formula for formula in Formula if formula.elementwise) | {Formula.KL_ROWS}
MOST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Denominator:
    """What mean divides by, and the rows (elements) that are not ignored: of a job, or of its parts so far.

    The denominator is `total` and what its additions rounded off.
    """

    total: float
    count: int
    lost: float = 0.0

    @property
    def weight_sum(self) -> float:
        return whole_sum(self.total, self.lost)


NOTHING = Denominator(0.0, 0)


def denominator_of(job: Job, before: Denominator = NOTHING) -> Denominator:
    """The job's denominator, added to that of the parts `before` it. An empty input keeps nothing, as in PyTorch.

    Raises BadValue where a target is neither a class nor ignored.
    """
    if job.formula in BY_CLASS:
        assert job.target is not None
        row, total, lost, count = kept_classes(
            read_only(job.target.values),
            job.ignore_index,
            job.layout.classes,
            weights_of(job.class_weight),
            weights_of(job.row_weight),
            before.total,
            before.lost,
        )
        if row >= 0:
            raise BadValue(Fault.CLASS_OUT_OF_RANGE, row)
        return Denominator(total, before.count + count, lost)
    layout = job.layout
    count = layout.rows if layout.elements else 0
    if job.formula in BY_ELEMENT:
        count = layout.elements
    elif count and job.row_weight is not None:
        total, lost = summed_on(read_only(job.row_weight), before.total, before.lost)
        return Denominator(total, before.count + count, lost)
    return Denominator(before.total + count, before.count + count)


def gradient_scale(job: Job, kept: Denominator) -> float:
    """What the job's gradients are multiplied by: upstream / denominator / ln(base)."""
    reducing = job.reducing
    if reducing.reduction is not Reduction.MEAN:
        return reducing.upstream / reducing.log_base
    if reducing.normalizer is not None:
        return reducing.upstream / reducing.normalizer / reducing.log_base
    if kept.count == 0:
        return 0.0
    weight_sum = kept.weight_sum
    return reducing.upstream / weight_sum / reducing.log_base if weight_sum else float("nan")


def scale_fits(job: Job, scale: float) -> bool:
    """Whether kernels can multiply the job's gradients by `scale`: float32 would make it infinite, and them with it."""
    graded = job.input_gradient or job.target_gradient or job.weight_gradient
    return not graded or job.compute == np.float64 or not MOST_FLOAT32 < abs(scale) < float("inf")


def reduced(job: Job, loss_sum: float, kept: Denominator) -> float:
    """The scalar loss of a sum that is in the loss's unit already.

    A normalizer replaces the denominator whatever is kept: a part of a larger mean may keep nothing and adds 0.
    """
    reducing = job.reducing
    if reducing.reduction is Reduction.SUM:
        return loss_sum
    if reducing.normalizer is not None:
        return loss_sum / reducing.normalizer
    if kept.count == 0:
        return 0.0 if reducing.empty_mean_zero else float("nan")
    weight_sum = kept.weight_sum
    return loss_sum / weight_sum if weight_sum else float("nan")


def read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers, not writable and aligned: numba compiles for each kind, and messages are read-only."""
    if not values.flags.aligned:  # a view into the middle of a message
        values = values.copy()
    if values.flags.writeable:
        values = values.view()
        values.flags.writeable = False
    return values


NO_WEIGHTS = read_only(np.empty(0))


def warm_up() -> None:
    """Compiles, or loads, what the functions here call."""
    ones, target = read_only(np.ones(1)), read_only(np.zeros(1, np.int64))
    kept_classes(target, -100, 1, ones, ones, 0.0, 0.0)
    for kind in (ones, read_only(np.ones(1, np.float32))):
        ordered_sum(kind, 0.0)
        summed_on(kind, 0.0, 0.0)
    divided_by_sums(ones, 1, 1, 1, np.empty(1))


def whole_sum(total: float, lost: float) -> float:
    """What additions came to that lost so much; an infinite total has lost nothing."""
    return total + lost if abs(total) < float("inf") else total


whole = device_function(whole_sum)  # the same, for compiled functions


@njit
def ordered_sum(values: npt.NDArray[Any], start: float) -> float:
    """start + values[0] + values[1] + …, from the left, in float64, with what each addition rounds off (Neumaier).

    values: float32 or float64.
    """
    total, lost = summed_on(values, start, 0.0)
    return whole(total, lost)


@device_function
def added(total: float, lost: float, value: float) -> tuple[float, float]:
    """One addition of such a sum: the new total, and all that was rounded off."""
    total_after = total + value
    off = (total - total_after) + value if abs(total) >= abs(value) else (value - total_after) + total
    return total_after, lost + off


@njit
def summed_on(values: npt.NDArray[Any], total: float, lost: float) -> tuple[float, float]:
    """The same sum carried on from where it stands: its total, and what was rounded off (`whole_sum` adds the two)."""
    for index in range(values.shape[0]):
        total, lost = added(total, lost, np.float64(values[index]))
    return total, lost


@device_function
def annihilate(a: float, b: float) -> float:
    """a·b, where a factor of exactly 0 annihilates the other unless that is NaN."""
    whole = a * b
    return 0.0 if whole != whole and a == a and b == b else whole  # of two numbers only 0·∞ is NaN


@njit
def kept_classes(
    target: npt.NDArray[np.int64],
    ignore_index: int,
    classes: int,
    class_weight: npt.NDArray[np.float64],
    row_weight: npt.NDArray[np.float64],
    total: float,
    lost: float,
) -> tuple[int, float, float, int]:
    """(first row whose target is no class, or −1; total + Σ r·w[y] over kept rows, and what that lost; kept rows).

    Added from the left as losses are (`summed_on`). Empty weights are ones.
    """
    count = 0
    for row in range(target.shape[0]):
        label = target[row]
        if label == ignore_index:
            continue
        if label < 0 or label >= classes:
            return row, total, lost, count
        count += 1
        weight = 1.0
        if class_weight.shape[0] > 0:
            weight = class_weight[label]
        if row_weight.shape[0] > 0:
            weight = annihilate(weight, row_weight[row])
        total, lost = added(total, lost, weight)
    return -1, total, lost, count


@njit
def divided_by_sums(
    counts: npt.NDArray[np.float64], outer: int, classes: int, inner: int, shares: npt.NDArray[np.float64]
) -> tuple[int, int]:
    """Fills `shares` with every count over its row's sum, added in the order of the classes.

    (first count that is negative or NaN, or −1; first row that sums to 0, or −1): with either, shares mean nothing.
    """
    for index in range(counts.shape[0]):
        if not counts[index] >= 0.0:
            return index, -1
    for item in range(outer):
        for column in range(inner):
            first = item * classes * inner + column
            total = 0.0
            for entry in range(classes):
                total += counts[first + entry * inner]
            if total == 0.0:
                return -1, item * inner + column
            for entry in range(classes):
                shares[first + entry * inner] = counts[first + entry * inner] / total
    return -1, -1


def weights_of(weights: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """As float64; none are no entries."""
    if weights is None:
        return NO_WEIGHTS
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return read_only(weights.astype(np.float64, copy=False))

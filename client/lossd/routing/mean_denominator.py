"""Mean denominator of targets that the server does not have at the start, added in its own order.

Gradients of a mean are scaled as they are computed, so a stream needs the denominator before its first block.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossd.contract import IGNORE_INDEX
from lossd.request import tensors
from lossd.request.tensors import Operand
from lossd.routing.block_plan import BlockPlan, is_index_target, row_axis
from lossd.v1 import loss_pb2

if TYPE_CHECKING:
    from lossd.request.build import Call

# Rows looked at in one go.
_CHUNK_ROWS = 1 << 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeanDenominator:
    """Σ r·w[y] over kept rows, and how many there are.

    The wire's normalizer is finite and > 0, so any other sum goes by the upstream gradient: normalizer, upstream.
    """

    weight_sum: float
    count: int

    @property
    def is_plain(self) -> bool:
        """Whether it can be said as it is."""
        return self.count > 0 and isfinite(self.weight_sum) and self.weight_sum > 0

    @property
    def normalizer(self) -> float:
        return abs(self.weight_sum) if isfinite(self.weight_sum) and self.weight_sum else 1.0

    def upstream(self, upstream: float) -> float:
        """What `upstream`, over `normalizer`, must be for the gradient of a mean over `weight_sum`."""
        if self.is_plain or self.count == 0:
            return upstream  # of no row at all: every row is ignored, and its gradient 0
        if self.weight_sum == 0:
            return nan
        return -upstream if isfinite(self.weight_sum) else upstream / self.weight_sum

    def loss(self, loss_sum: float, *, empty_zero: bool) -> float:
        """The mean that the server says without a normalizer."""
        if self.count == 0:
            return 0.0 if empty_zero else nan
        return loss_sum / self.weight_sum if self.weight_sum else nan


def mean_denominator(call: Call, cut: BlockPlan) -> MeanDenominator | None:
    """What the server must be told of this call's denominator before its blocks. Reads the targets; None: nothing."""
    return denominator(call) if _is_needed(call, cut) else None


def _is_needed(call: Call, cut: BlockPlan) -> bool:
    """Whether the server cannot know the denominator of this call's gradients from its Open."""
    fields = call.asked.fields
    mean = fields.get("reduction", loss_pb2.REDUCTION_MEAN) == loss_pb2.REDUCTION_MEAN
    if not call.asked.gradients or not mean or "normalizer" in fields or row_axis(call) is None:
        return False
    if call.asked.method in ("self_information", "kl_divergence"):
        return False
    return "row_weight" in cut.streamed or ("target" in cut.streamed and is_index_target(call))


def denominator(call: Call) -> MeanDenominator:
    """One pass over the targets and the row weights, bounded in memory."""
    weights = call.operands.get("row_weight")
    if not is_index_target(call):
        assert weights is not None
        of_weights = _Sum()
        for start, stop in _chunks(weights):
            of_weights.add(tensors.as_float64(weights.values[start:stop], weights.dtype).reshape(-1))
        return MeanDenominator(of_weights.value, weights.values.size)
    class_weight = call.operands.get("weight")
    by_class = None if class_weight is None else tensors.as_float64(class_weight.values, class_weight.dtype).reshape(-1)
    target, shape = call.operands["target"], call.operands["input"].shape
    classes = shape[1]
    ignored = call.asked.fields.get("ignore_index", IGNORE_INDEX)
    total, count = _Sum(), 0
    for start, stop in _chunks(target):
        labels = target.values[start:stop].reshape(-1).astype(np.int64)
        # A label that is no class fails its block on the server, which names it.
        kept = (labels != ignored) & (labels >= 0) & (labels < classes)
        count += int(np.count_nonzero(kept))
        if by_class is None and weights is None:
            continue
        rows = np.ones(int(np.count_nonzero(kept))) if by_class is None else by_class[labels[kept]]
        if weights is not None:
            rows = rows * tensors.as_float64(weights.values[start:stop], weights.dtype).reshape(-1)[kept]
        total.add(rows)
    return MeanDenominator(float(count) if by_class is None and weights is None else total.value, count)


def _chunks(operand: Operand) -> list[tuple[int, int]]:
    items = operand.shape[0]
    step = max(1, _CHUNK_ROWS * items // max(1, operand.values.size))
    return [(start, min(start + step, items)) for start in range(0, items, step)]


def _ordered(start: float, values: Floats) -> Floats:
    """start, start + values[0], …: every sum from the left; numpy's accumulate adds in this order."""
    with np.errstate(all="ignore"):
        sums: Floats = np.add.accumulate(np.concatenate(([start], values)))
    return sums


class _Sum:
    """A sum from the left with what every addition rounds off (Neumaier), as the server's."""

    def __init__(self) -> None:
        self._total = self._lost = 0.0

    def add(self, values: Floats) -> None:
        sums = _ordered(self._total, values)
        before, after = sums[:-1], sums[1:]
        with np.errstate(all="ignore"):
            off: Any = np.where(abs(before) >= abs(values), (before - after) + values, (values - after) + before)
        self._total, self._lost = float(sums[-1]), float(_ordered(self._lost, off)[-1])

    @property
    def value(self) -> float:
        return self._total + self._lost if abs(self._total) < np.inf else self._total

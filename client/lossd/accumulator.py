"""Accumulator: the loss of a whole data set from the results of its parts."""

from __future__ import annotations

import math
from array import array
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from lossd.request.option_values import unknown_value
from lossd.results import Result, Summary


class Accumulator:
    """`acc += result` for every part, whatever its reduction; then `acc.loss` is that of all rows together.

    >>> acc = lossd.Accumulator(reduction="mean")
    >>> for logits, target in batches:
    ...     acc += client.cross_entropy(logits, target)
    >>> float(acc)

    What is added up is each result's summary, exactly (math.fsum): the order of the parts makes no difference, and
    parts of different sizes and weights count as they should. The mean over no kept row is NaN.
    """

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise unknown_value("reduction", reduction, ("mean", "sum"))
        self.reduction = reduction
        # 16 bytes a result: what makes the sums exact.
        self._loss_sums = array("d")
        self._weight_sums = array("d")
        self._count = 0

    def __iadd__(self, result: Result) -> Self:
        self._loss_sums.append(result.summary.loss_sum)
        self._weight_sums.append(result.summary.weight_sum)
        self._count += result.summary.count
        return self

    @property
    def summary(self) -> Summary:
        """That of the whole data set."""
        return Summary(_exact_sum(self._loss_sums), _exact_sum(self._weight_sums), self._count)

    @property
    def loss(self) -> npt.NDArray[Any]:
        """float64, 0-d."""
        summary = self.summary
        if self.reduction == "sum":
            return np.asarray(summary.loss_sum)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.divide(summary.loss_sum, summary.weight_sum))

    def __float__(self) -> float:
        return float(self.loss)

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    def __repr__(self) -> str:
        return f"Accumulator(reduction={self.reduction!r}, loss={float(self):.8g}, count={self._count})"


def _exact_sum(values: array[float]) -> float:
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        # Beyond the largest double on the way, or inf − inf: what plain addition makes of it.
        return sum(values)

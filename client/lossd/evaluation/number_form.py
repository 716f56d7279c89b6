"""Form of an array's numbers: whether they look like logits, log-probabilities, probabilities or counts.

Seen in a sample of every block, so that a large file costs little more.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# The contract's kinds, and one more: not negative, and neither whole numbers nor in rows that sum to 1.
Form = Literal["logits", "log_probabilities", "probabilities", "counts", "unnormalised"]

# Elements of a block that are looked at: 1 ms, where a block of 16 MiB takes tens.
SAMPLE = 1 << 15
# Rows of 16-bit floats sum to 1 within this.
TOLERANCE = 0.01
# What rounding makes of 0 and 1.
_ROUNDING = 1e-6
# So many numbers between 0 and 1 are no accident.
_FEWEST = 8


class NumberForm:
    """Collects numbers, block by block. axis: along which a distribution lies; None where each number is for itself."""

    def __init__(self, axis: int | None) -> None:
        self._axis = axis
        self._count = 0
        self._whole = True
        self.least, self.greatest = math.inf, -math.inf
        # Of each row: Σ x, and whether that or Σ exp x was 1 for all.
        self.least_sum, self.greatest_sum = math.inf, -math.inf
        self._exponentials = True

    def add(self, block: npt.NDArray[Any]) -> None:
        rows = _sample(block, self._axis)
        numbers = rows[~np.isnan(rows)]
        if not numbers.size:
            return
        self._count += numbers.size
        self.least = min(self.least, float(numbers.min()))
        self.greatest = max(self.greatest, float(numbers.max()))
        self._whole &= bool(np.all(numbers == np.floor(numbers)))
        if self._axis is None:
            return
        # A row of zeros is padding; one with NaN says nothing.
        rows = rows[~np.isnan(rows).any(axis=1) & rows.any(axis=1)]
        if len(rows):
            with np.errstate(all="ignore"):
                sums, exponentials = rows.sum(axis=1), np.exp(rows).sum(axis=1)
            self.least_sum = min(self.least_sum, float(sums.min()))
            self.greatest_sum = max(self.greatest_sum, float(sums.max()))
            self._exponentials &= bool(np.all(abs(exponentials - 1) < TOLERANCE))

    @property
    def form(self) -> Form | None:
        """None where there were too few numbers to tell, or zeros alone."""
        if self._count < (_FEWEST if self._axis is None else 2) or self.least == self.greatest == 0:
            return None
        if self._axis is not None and self._exponentials and self.least < 0 and self.greatest <= _ROUNDING:
            return "log_probabilities"
        if self.least < -_ROUNDING:
            return "logits"
        if self.greatest <= 1 + _ROUNDING and (self._axis is None or self.sums_to_one):
            return "probabilities"
        return "counts" if self._whole and self.greatest > 1 else "unnormalised"

    @property
    def sums_to_one(self) -> bool:
        """Whether every row does; also where all are zeros."""
        return not self.least_sum < 1 - TOLERANCE and not self.greatest_sum > 1 + TOLERANCE


def _sample(block: npt.NDArray[Any], axis: int | None) -> npt.NDArray[np.float64]:
    """Evenly spaced rows of a block, (rows, entries); single numbers are rows of one entry."""
    rows = block[..., None] if axis is None else np.moveaxis(block, axis, -1)
    places, entries = rows.shape[:-1], rows.shape[-1]
    total = math.prod(places)
    if not total or not entries:
        return np.empty((0, max(1, entries)))
    chosen = np.linspace(0, total - 1, min(total, max(1, SAMPLE // entries))).astype(np.int64)
    sample = rows[np.unravel_index(chosen, places)] if places else rows[None]
    return sample.astype(np.float64)

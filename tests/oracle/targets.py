"""Targets of CrossEntropy as shares: what each row's loss Σ u[c]·(−ln q[c]) takes of every class.

u = (1−ε)·w[y]·[c=y] + (ε/C)·w[c] for an index y, w[c]·t'[c] with t' = (1−ε)·t[c] + ε/C for a distribution t.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.oracle.exact import ONE, ZERO, Number, Numbers, decode, full, mp, times

Row = tuple[int, ...]


class Targets:
    """index: class indices `y` of the rows' shape; else distributions `t`, counts divided by their rows' sums."""

    def __init__(
        self, target: Any, kind: str | None, rows: Numbers, dim: int, weight: Any, ignore_index: int, smoothing: float
    ) -> None:
        self.shape, self.classes = rows.shape[:-1], rows.shape[-1]
        self.ignore_index, self.smoothing = ignore_index, mp.mpf(smoothing)
        self.w = full((self.classes,), ONE) if weight is None else decode(weight)
        self.index = np.asarray(target).dtype.kind in "iu" and kind in (None, "indices")
        self.y: npt.NDArray[Any] = np.empty(0)
        self.t: Numbers = np.empty(0, object)
        if self.index:
            self.y = np.asarray(target).reshape(self.shape)
        else:
            t = np.moveaxis(decode(target), dim, -1)
            self.t = t / t.sum(axis=-1, keepdims=True) if kind == "counts" else t

    def kept(self, row: Row) -> bool:
        return not self.index or int(self.y[row]) != self.ignore_index

    def label(self, row: Row) -> int | None:
        """The class that an argmax should meet; None where there is none."""
        return int(self.y[row]) if self.index and self.kept(row) else None

    def smooth(self, row: Row) -> list[Number]:
        """t' of a distribution."""
        return [times(1 - self.smoothing, t) + self.smoothing / self.classes for t in self.t[row]]

    def shares(self, row: Row) -> list[Number]:
        """u; zeros where the row is ignored."""
        if not self.kept(row):
            return [ZERO] * self.classes
        if not self.index:
            return [times(w, t) for w, t in zip(self.w, self.smooth(row), strict=True)]
        y = int(self.y[row])
        spread = [times(self.smoothing / self.classes, w) for w in self.w]
        spread[y] += times(1 - self.smoothing, self.w[y])
        return spread

    def denominators(self, r: Numbers) -> Numbers:
        """r·w[y] of kept rows; r of distributions."""
        found: Numbers = full(self.shape, ZERO)
        for row in np.ndindex(self.shape):
            if self.kept(row):
                found[row] = times(r[row], self.w[int(self.y[row])]) if self.index else r[row]
        return found

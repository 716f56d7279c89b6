"""Per-class table: how many rows each class has, their mean loss, and how many of them were predicted right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class PerClass:
    """Collects rows (elements, of binary losses), block by block. classes: their number."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros(classes, np.int64)
        self._losses = np.zeros(classes)
        self._right: npt.NDArray[np.int64] | None = None
        self.hard = True

    def add(
        self, targets: npt.NDArray[Any], losses: npt.NDArray[Any], right: npt.NDArray[np.bool_] | None = None
    ) -> None:
        """All of one length, without what is ignored. right: whether each was predicted right; None if nobody knows.

        targets: class indices; others than 0 and 1 of a binary loss make `hard` False, and there is no table.
        """
        self.hard = self.hard and (targets.dtype.kind in "iub" or bool(np.all((targets == 0) | (targets == 1))))
        if not self.hard:
            return
        classes, most = targets.astype(np.int64), len(self._counts)
        self._counts += np.bincount(classes, minlength=most)
        self._losses += np.bincount(classes, losses.astype(np.float64), most)
        if right is not None:
            if self._right is None:
                self._right = np.zeros(most, np.int64)
            self._right += np.bincount(classes[right], minlength=most)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each class that has a row: class, count, mean loss and, where it is known, accuracy."""
        if not self.hard:
            return []
        found = []
        for one in np.flatnonzero(self._counts):
            count = int(self._counts[one])
            row = {"class": int(one), "count": count, "loss": float(self._losses[one]) / count}
            if self._right is not None:
                row["accuracy"] = int(self._right[one]) / count
            found.append(row)
        return found


def worst_first(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many, those of greatest mean loss first, NaN before all."""
    return sorted(rows, key=lambda row: (not math.isnan(row["loss"]), -row["loss"], row["class"]))[:most]

"""Row sums: what a run keeps of its rows, so that another can be compared with it.

The sum of the losses of each row, and how many they are (0 of an ignored one). Of more than 10,000 rows, those of
10,000 groups, to which rows belong at random, but in every run to the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class SumsOfRows:
    """items: rows in all. loss_sums, counts: of each row or group, float64 and int64, (min(items, GROUPS),).

    target_sha256: of the targets' numbers, or "" where there are none: which rows these are.
    """

    items: int
    loss_sums: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    target_sha256: str


class SumsOfRowsSoFar:
    """Collects them, block by block. items: rows in all; item_losses: losses of each."""

    def __init__(self, items: int, item_losses: int) -> None:
        self._items = items
        self._item_losses = max(1, item_losses)
        self._sums = np.zeros(min(items, GROUPS))
        self._counts = np.zeros(min(items, GROUPS), np.int64)
        self._digest: Any = None

    def add(self, index: npt.NDArray[np.int64], losses: npt.NDArray[Any], target: npt.NDArray[Any] | None) -> None:
        """index: of each loss among all, in order; without ignored ones. target: the block's, with ignored ones."""
        groups = bootstrap_group(index // self._item_losses, self._items)
        self._sums += np.bincount(groups, losses.astype(np.float64), len(self._sums))
        self._counts += np.bincount(groups, minlength=len(self._sums))
        if target is not None:
            self._digest = self._digest or hashlib.sha256()
            # Whatever file they are from, the same numbers are the same targets.
            wide = target.astype("<i8" if target.dtype.kind in "iub" else "<f8")
            self._digest.update(np.ascontiguousarray(wide).data)

    def sums(self) -> SumsOfRows:
        return SumsOfRows(self._items, self._sums, self._counts, self._digest.hexdigest() if self._digest else "")


def bootstrap_group(rows: npt.NDArray[np.int64], items: int) -> npt.NDArray[np.int64]:
    """The group of each row: itself, or one that the SplitMix64 of its number chooses."""
    if items <= GROUPS:
        return rows
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((x ^ (x >> np.uint64(31))) % np.uint64(GROUPS)).astype(np.int64)

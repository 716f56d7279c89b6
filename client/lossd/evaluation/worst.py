"""The rows of greatest loss and a sample of all losses, collected block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]


class Worst:
    """The `most` rows of greatest loss so far: NaN first, then by loss; of equal losses, the lower index first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._best: Columns = {}

    def add(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """columns: "index" (flat), "loss" and other columns to list, all of the same length."""
        losses = columns["loss"]
        if len(losses) > self._most:
            # NaN sorts last, with the greatest.
            least = np.partition(losses, -self._most)[-self._most] if self._most else np.inf
            keep = np.flatnonzero((losses >= least) | np.isnan(losses))
            columns = {name: column[keep] for name, column in columns.items()}
        joined = {name: np.concatenate([self._best[name], new]) if self._best else new for name, new in columns.items()}
        order = np.lexsort((joined["index"], -joined["loss"], ~np.isnan(joined["loss"])))[: self._most]
        self._best = {name: column[order] for name, column in joined.items()}

    def rows(self, shape: tuple[int, ...]) -> list[dict[str, Any]]:
        """A dict for each row. index: a number, or a list of them where losses have several dimensions."""
        if not self._best:
            return []
        rows = []
        for i, flat in enumerate(self._best["index"]):
            index = [int(one) for one in np.unravel_index(flat, shape)] if shape else []
            row = {name: column[i].item() for name, column in self._best.items()}
            row["index"] = index[0] if len(index) == 1 else index
            rows.append(row)
        return rows


class Sample:
    """Losses for a histogram: all of them up to `most`; beyond that every second one, then every fourth, …"""

    def __init__(self, most: int = 1 << 22) -> None:
        self._most = most
        self._parts: list[npt.NDArray[np.float32]] = []
        self._held = 0
        self._stride = 1
        self._next = 0

    def add(self, losses: npt.NDArray[Any]) -> None:
        part = losses[self._next :: self._stride].astype(np.float32)
        self._next = (self._next - len(losses)) % self._stride
        self._parts.append(part)
        self._held += len(part)
        while self._held > self._most:
            joined = self.values()[::2]
            self._next += self._stride * (self._held % 2)
            self._stride *= 2
            self._parts, self._held = [joined], len(joined)

    def values(self) -> npt.NDArray[np.float32]:
        return np.concatenate(self._parts) if self._parts else np.empty(0, np.float32)

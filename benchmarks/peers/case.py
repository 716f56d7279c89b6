"""One cross-entropy that every peer evaluates: its tensors in a folder, with what float64 says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LOSS_TOLERANCE = 1e-5  # relative; torch in float32 is off by up to 2e-6 at 32,000 classes
GRADIENT_TOLERANCE = 1e-5  # of the greatest entry
CHECKED_ROWS = 8
BLOCK = 1 << 22  # elements that are in float64 at a time


class WrongAnswer(Exception):
    """A peer's answer is not what float64 says."""


@dataclass(frozen=True)
class Case:
    """input: (N, C) float32 logits; target: (N,) int64; loss: their mean cross-entropy in float64.

    gradient: (rows, C) float64, the loss by the logits of `rows`, some of the first and last ones.
    """

    input: Array
    target: Array
    loss: float
    rows: Array
    gradient: Array

    @property
    def nbytes(self) -> int:
        """Bytes that have to reach whoever computes."""
        return self.input.nbytes + self.target.nbytes

    def check(self, loss: float, gradient: Array | None = None) -> None:
        """Raises WrongAnswer."""
        if not abs(loss / self.loss - 1) <= LOSS_TOLERANCE:
            raise WrongAnswer(f"the loss is {loss!r}; float64 says {self.loss!r}")
        if gradient is not None:
            if gradient.shape != self.input.shape:
                raise WrongAnswer(f"the gradient has shape {gradient.shape}, not {self.input.shape}")
            off = float(np.abs(gradient[self.rows] - self.gradient).max() / np.abs(self.gradient).max())
            if not off <= GRADIENT_TOLERANCE:
                raise WrongAnswer(f"the gradient is off by {off:.1e}")


def write(folder: Path, rows: int, classes: int) -> Path:
    """Makes the case of random logits of this shape; returns its folder."""
    from lossd.bench.float64 import closed_form  # peers read cases without lossd

    random = np.random.default_rng(rows * classes)
    logits = random.standard_normal((rows, classes), np.float32) * np.float32(3)
    target = random.integers(0, classes, rows)
    losses = np.empty(rows)
    step = max(1, BLOCK // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        losses[part], _ = closed_form("cross_entropy", logits[part], target[part], "none")
    checked = np.unique([*range(min(rows, CHECKED_ROWS // 2)), *range(max(0, rows - CHECKED_ROWS // 2), rows)])
    _, gradient = closed_form("cross_entropy", logits[checked], target[checked], "none")
    folder.mkdir(parents=True)
    found = {"input": logits, "target": target, "loss": losses.mean(), "rows": checked, "gradient": gradient / rows}
    for name, array in found.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def read(folder: Path | str) -> Case:
    names = ("input", "target", "loss", "rows", "gradient")
    arrays = {name: np.load(Path(folder) / f"{name}.npy") for name in names}
    return Case(**arrays | {"loss": float(arrays["loss"])})

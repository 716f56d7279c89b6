"""Inputs in four directions: confidence, offsets, numbers of classes, dtypes.

Every number is one that float32 holds, so that float32 and float64 are asked the same question and share its answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
CLASSES = 10
ROWS = 8
# By how much the true logit leads the greatest of the others; negative: it trails.
LEADS = tuple(range(-60, 61, 3))
OFFSETS = tuple(float(f"{10**exponent:.0e}") for exponent in np.arange(0, 8.5, 0.5))
CLASS_COUNTS = tuple(2**power for power in (1, 2, 4, 6, 8, 10, 12, 14, 16, 18))


@dataclass(frozen=True)
class Sample:
    """One question.

    at: where it lies on its direction. x (N, C): logits, y (N): their true classes. other (N, C): the logits whose
    softmax x's is compared with in a divergence. z, t (M): logits and targets for the elementwise losses, or empty.
    """

    at: float
    x: F32
    y: npt.NDArray[np.int64]
    other: F32
    z: F32
    t: F32


NOTHING: F32 = np.zeros(0, np.float32)


def by_lead() -> Iterator[Sample]:
    """Confidence grows: right where the lead is positive, wrong where it is negative."""
    for lead in LEADS:
        random = np.random.default_rng(7)
        x, y = _rows(random, CLASSES)
        other, _ = _rows(random, CLASSES)
        _lead(x, y, lead)
        _lead(other, y, lead - 1)
        near = np.float32(lead) + random.uniform(-0.5, 0.5, ROWS // 2).astype(np.float32)
        t = np.repeat(np.array([1, 0], np.float32), ROWS // 2)
        yield Sample(lead, x, y, other, np.concatenate([near, -near]), t)


def by_offset() -> Iterator[Sample]:
    """A constant is added to every logit: the truth does not care, but for the rounding of what is stored."""
    for offset in OFFSETS:
        random = np.random.default_rng(11)
        x, y = _rows(random, CLASSES)
        other, _ = _rows(random, CLASSES)
        yield Sample(offset, x + np.float32(offset), y, other + np.float32(offset), NOTHING, NOTHING)


def by_classes() -> Iterator[Sample]:
    """Rows grow longer: sums have more terms."""
    for classes in CLASS_COUNTS:
        random = np.random.default_rng(13)
        count = ROWS if classes <= 1024 else 1  # 50 digits take their time
        x, y = _rows(random, classes, count)
        other, _ = _rows(random, classes, count)
        yield Sample(classes, x, y, other, NOTHING, NOTHING)


def coarse() -> dict[str, Sample]:
    """Logits in eighths below 16, which float16 and bfloat16 hold too: usual ones, and a true class 12 ahead."""
    random = np.random.default_rng(17)
    x, y = _rows(random, CLASSES, spread=3)
    other, _ = _rows(random, CLASSES, spread=3)
    z = random.normal(0, 3, ROWS).astype(np.float32)
    t = np.tile(np.array([0, 1], np.float32), ROWS // 2)
    usual = Sample(0, _eighths(x), y, _eighths(other), _eighths(z), t)
    sure, rival = _eighths(x / 8), _eighths(other / 8)
    _lead(sure, y, 12)
    _lead(rival, y, 11)
    return {"usual": usual, "confident": Sample(12, sure, y, rival, np.where(t > 0, 12, -12).astype(np.float32), t)}


def _rows(random: np.random.Generator, classes: int, count: int = ROWS, spread: float = 1) -> tuple[F32, Any]:
    x = random.normal(0, spread, (count, classes)).astype(np.float32)
    return x, random.integers(0, classes, count)


def _lead(x: F32, y: npt.NDArray[np.int64], lead: float) -> None:
    """Puts the true logit ahead of the others by `lead`, as nearly as float32 can."""
    at = np.arange(len(x)), y
    x[at] = -np.inf
    x[at] = x.max(axis=1) + np.float32(lead)


def _eighths(x: npt.NDArray[Any]) -> F32:
    return np.clip(np.round(x * 8) / 8, -15.875, 15.875).astype(np.float32)

"""Metrics besides the loss: accuracy, mean entropy of the predictions, calibration error, perplexity.

They are computed from what the server returns: the loss's auxiliary outputs, and the sigmoid of binary logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.results import Result, Summary

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration in bins of confidence of equal width over [0, 1].

    Each array has an entry per bin: the number of predictions, their mean confidence, and the share that was right
    (NaN in an empty bin).
    """

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    frequency: npt.NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: Σ counts·|confidence − frequency| / Σ counts (Naeini et al., 2015)."""
        some = self.counts > 0
        gaps = np.abs(self.confidence - self.frequency)[some]
        return float(np.average(gaps, weights=self.counts[some])) if some.any() else math.nan


class Calibration:
    """Collects predictions, block by block."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._confidence = np.zeros(BINS)
        self._right = np.zeros(BINS)

    def add(self, confidence: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
        """confidence: in [0, 1]; NaN is left out. right: whether each prediction was right."""
        sure = confidence.astype(np.float64)
        some = ~np.isnan(sure)
        sure, right = sure[some], right[some]
        # A bin includes its upper edge and not its lower one, so that a confidence of 1 has a bin.
        bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self._counts += np.bincount(bins, minlength=BINS)
        self._confidence += np.bincount(bins, sure, BINS)
        self._right += np.bincount(bins, right, BINS)

    def reliability(self) -> Reliability:
        with np.errstate(invalid="ignore"):
            return Reliability(self._counts, self._confidence / self._counts, self._right / self._counts)


class Predictions:
    """Accuracy, mean entropy and calibration over the kept rows of a classification."""

    def __init__(self, per_nat: float, *, indices: bool) -> None:
        self._per_nat = per_nat
        self._indices = indices
        self._entropies: list[float] = []
        self._kept = self._right = 0
        self._calibration = Calibration()

    def add(self, logits: npt.NDArray[Any], result: Result, kept: npt.NDArray[np.bool_]) -> None:
        """logits: (N, C, d1 … dk). kept, and the result's outputs: (N, d1 … dk)."""
        self._kept += int(np.count_nonzero(kept))
        self._entropies.append(float(np.sum(result.outputs["entropy"][kept], dtype=np.float64)))
        if self._indices:
            right = result.outputs["correct"][kept]
            self._right += int(np.count_nonzero(right))
            self._calibration.add(_confidence(logits, result)[kept], right)

    def measures(self) -> dict[str, Any]:
        measures: dict[str, Any] = {}
        if self._indices:
            measures["accuracy"] = self._right / self._kept if self._kept else math.nan
            measures["correct"] = self._right
        mean = math.fsum(self._entropies) / self._kept if self._kept else math.nan
        measures["mean_entropy"] = mean * self._per_nat
        if self._indices:
            measures["calibration_error"] = self._calibration.reliability().error
        return measures

    def reliability(self) -> Reliability | None:
        return self._calibration.reliability() if self._indices else None


def _confidence(logits: npt.NDArray[Any], result: Result) -> npt.NDArray[np.float64]:
    """The probability of the predicted class, exp(x_argmax − lse); NaN where the row has NaN."""
    predicted = result.outputs["argmax"]
    axis = 1 if logits.ndim > 1 else 0
    best = np.take_along_axis(logits, np.expand_dims(np.maximum(predicted, 0), axis), axis).squeeze(axis)
    with np.errstate(invalid="ignore"):
        confidence = np.exp(np.minimum(best.astype(np.float64) - result.outputs["lse"], 0.0))
    return np.where(predicted < 0, np.nan, confidence)


class Binary:
    """Accuracy of elements whose targets are 0 or 1; and calibration, where probabilities are given."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._hard = True
        self._count = self._right = self._positive = 0
        self._calibration: Calibration | None = None

    def add(self, input: npt.NDArray[Any], target: npt.NDArray[Any], probabilities: npt.NDArray[Any] | None) -> None:
        """input: 1 is predicted above the threshold. probabilities: those of 1; None if calibration is not wanted."""
        positive = target == 1
        self._hard &= bool(np.all(positive | (target == 0)))
        if not self._hard:
            return
        self._count += input.size
        self._positive += int(np.count_nonzero(positive))
        self._right += int(np.count_nonzero((input > self._threshold) == positive))
        if probabilities is not None:
            self._calibration = self._calibration or Calibration()
            self._calibration.add(probabilities.ravel(), positive.ravel())

    def measures(self) -> dict[str, Any]:
        if not self._hard or not self._count:
            return {}
        measures = {"accuracy": self._right / self._count, "correct": self._right, "positive": self._positive}
        if self._calibration is not None:
            measures["calibration_error"] = self._calibration.reliability().error
        return measures

    def reliability(self) -> Reliability | None:
        return self._calibration.reliability() if self._hard and self._calibration is not None else None


def perplexity(summary: Summary, base: float | None) -> float:
    """base to the power of the mean cross-entropy: how many equally likely classes would be as hard to guess."""
    if not summary.weight_sum:
        return math.nan
    try:
        return float((base or math.e) ** (summary.loss_sum / summary.weight_sum))
    except OverflowError:
        return math.inf

"""Bootstrap: how far the difference of two means may be chance, by drawing rows again (Efron, 1979). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossd.evaluation.comparing.row_sums import SumsOfRows

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
# Numbers that are drawn at once: 8 MB.
_DRAWN = 1_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """Of the difference of two means. low, high: the percentile interval of `LEVEL`. paired: whether the same rows were
    drawn of both runs."""

    low: float
    high: float
    paired: bool


def same_rows(one: SumsOfRows, other: SumsOfRows) -> bool:
    """Whether both are of the same rows, as far as their number, their targets and what is ignored tell."""
    return (
        one.items == other.items
        and one.target_sha256 == other.target_sha256
        and bool(np.array_equal(one.counts, other.counts))
    )


def difference_interval(this: SumsOfRows, other: SumsOfRows) -> Interval | None:
    """Of this mean less the other. None where that has no sense: fewer than two rows, or a loss that is not finite.

    The numbers are the same each time.
    """
    random = np.random.default_rng(SEED)
    if paired := same_rows(this, other):
        differences = _means(this.loss_sums - other.loss_sums, this.counts, random)
    else:
        of_this, of_other = (_means(one.loss_sums, one.counts, random) for one in (this, other))
        differences = None if of_this is None or of_other is None else of_this - of_other
    if differences is None:
        return None
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), paired)


def _means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.float64] | None:
    """The mean of each resample, (RESAMPLES,)."""
    some = counts > 0
    sums, counts = sums[some], counts[some]
    if len(sums) < 2 or not np.isfinite(sums).all():
        return None
    alike = bool((counts == counts[0]).all())
    means = np.empty(RESAMPLES)
    step = math.ceil(_DRAWN / len(sums))
    for start in range(0, RESAMPLES, step):
        drawn = random.integers(0, len(sums), (min(step, RESAMPLES - start), len(sums)), np.int32)
        divisors = len(sums) * counts[0] if alike else counts[drawn].sum(1)
        means[start : start + step] = sums[drawn].sum(1) / divisors
    return means

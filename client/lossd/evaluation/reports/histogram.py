"""The bins of a histogram of losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FEWEST_BINS, MOST_BINS = 10, 60
# A larger spread of losses than this is drawn on a logarithmic axis.
LOG_SPREAD = 100.0


def bin_edges(losses: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool, int]:
    """The bins' edges; whether the axis is logarithmic (losses over several decades); how many zeros it leaves out."""
    positive = losses[losses > 0]
    bins = int(np.clip(2 * np.sqrt(len(losses)), FEWEST_BINS, MOST_BINS))
    if len(positive) > 0.5 * len(losses) and losses.min() >= 0:
        low, middle, high = positive.min(), np.median(positive), positive.max()
        if high > LOG_SPREAD * middle or middle > LOG_SPREAD * low:
            return np.geomspace(low, high * (1 + 1e-9), bins + 1), True, len(losses) - len(positive)
    return np.histogram_bin_edges(losses, bins), False, 0

"""Lane state: what is kept of a tile whose rows are lanes, and how a thread's scratch is laid out for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd_server.backends.numba.layout.blocks import STAGE
from lossd_server.backends.numba.simd.vector import BYTES

MOST_LANE_CLASSES = 512  # classes up to which rows go to lanes: above, the tile leaves the caches

# Scratch: the tile's classes, exponentials (then gradients), the target mix v, a linear copy with its stage, the
# target's gradient, slopes of a softcap; then one number a row: the target's class and logit, whether it is kept (of
# the compute type), share, gradient's factor, loss (float64).
CLASSES = 0
SPAN = (MOST_LANE_CLASSES + 3) * BYTES  # no multiple of 4 KiB: one class of two tables would fight for a cache set
EXPONENTIALS = SPAN
MIXED = 2 * SPAN
LINEAR = 3 * SPAN
TARGET_OUT = LINEAR + SPAN + STAGE
SLOPES = TARGET_OUT + SPAN
TARGETS = SLOPES + SPAN
PICKED = TARGETS + BYTES
KEPT = PICKED + BYTES
SHARES = KEPT + BYTES
FACTORS = SHARES + 2 * BYTES
LOSSES = FACTORS + 2 * BYTES
OUTPUTS = LOSSES + 2 * BYTES  # room for auxiliary outputs


class LaneSums(NamedTuple):
    """Vectors, one row a lane, of the compute type (top, ref, first) and of float64 (all others)."""

    top: Any  # the greatest logit
    ref: Any  # what exponents are relative to: the same, 0 while that is −∞
    unit: Any  # what the exponentials in scratch have for 1
    below: Any  # Σ exp(x − ref) over x < ref
    rest: Any  # Σ exp(x − max), the first maximum left out; NaN where there is no finite maximum
    log_rest: Any  # ln(1 + rest)
    gaps: Any  # Σ (ref − x)·exp(x − ref), where wanted
    first: Any  # index of the first greatest logit, where there is a target mix
    mass: Any  # Σ v
    weighted: Any  # Σ v·(ref − x)

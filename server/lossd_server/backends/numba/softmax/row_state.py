"""What is kept of a row while it is read, and how a thread's scratch is laid out."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.layout.blocks import PITCH, STAGE, TILE
from lossd_server.backends.numba.simd.memory import load_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function

# Columns of a row's state, float64.
MAXIMUM = 0  # the greatest logit so far
REF = 1  # what exponents are relative to: the same, 0 while that is −∞
BELOW = 2  # Σ exp(x − ref) over x < ref
TIES = 3  # number of x = ref
GAPS = 4  # Σ (ref − x)·exp(x − ref)
WEIGHTED = 5  # Σ v·(ref − x)
MASS = 6  # Σ v
FIRST = 7  # index of the first greatest logit
CLASS = 8  # the target's index
PICKED = 9  # the target's logit
SHARE = 10  # (1 − ε)·w[y]
REST = 11  # Σ exp(x − max), the first maximum left out
LOG_REST = 12  # ln(1 + rest)
FACTOR = 13  # what the row's gradient is multiplied by: scale · row weight · upstream
KEPT = 14  # 0 where the row is ignored
REST_MASS = 15  # Σ v, the first maximum left out; NaN: MASS less its own is exact enough
MASS_OF_Z = 16  # 2κ·lse, the share of z_loss in what p is multiplied by
OWN = 17  # a, or g, of the first maximum
OTHERS = 18  # Σ of it over all other classes
STATES = 19

# Offsets in scratch. Tiles: the input (then its gradient), v, the target's gradient, slopes of a softcap (other
# gradients), upstream gradients, single losses. Rows: class weights and exponentials. Then a vector for a gradient's
# tail, a stage for tails, the states. What a job does not need is never touched.
INPUT = 0
MIXED = TILE * PITCH
TARGET_OUT = 2 * TILE * PITCH
SLOPES = 3 * TILE * PITCH
UPSTREAM = 4 * TILE * PITCH
SINGLE = 5 * TILE * PITCH
WEIGHTS = 6 * TILE * PITCH
EXPONENTIALS = WEIGHTS + PITCH
OUT_TAIL = EXPONENTIALS + PITCH
STAGED = OUT_TAIL + BYTES
STATE = STAGED + STAGE
SCRATCH_BYTES = STATE + 8 * TILE * STATES


@device_function
def annihilate(a: float, b: float) -> float:
    """a·b by the rule for zeros: a = 0 annihilates an infinite b."""
    return 0.0 if a == 0.0 and b == b else a * b


@device_function
def optional_number(at: int, i: int, like: Any) -> float:
    """Entry i of an optional array of `like`'s type; 1 where there is no array."""
    return float(load_one(at + i * width(like), like)) if at else 1.0

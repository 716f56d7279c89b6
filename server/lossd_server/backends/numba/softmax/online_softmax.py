"""Online softmax: a row's maximum and its sum of exponentials, block by block, in one read.

Sums are relative to the greatest logit so far and are rescaled when a greater one comes. `rest` leaves the maximum out:
−log p = (m − x) + log1p(rest) has two terms ≥ 0 and nothing cancels.
"""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.layout.blocks import RowBlock
from lossd_server.backends.numba.simd.exponential import exp_scale
from lossd_server.backends.numba.simd.memory import cast
from lossd_server.backends.numba.simd.operations import first_lane, splat
from lossd_server.backends.numba.softmax.block_sums import exp_sums, largest
from lossd_server.jobs.jit import device_function, inlined
from lossd_server.jobs.reduction import annihilate


@device_function
def raise_maximum(state: Any, maximum: float) -> None:
    """Rescales a row's sums to a greater maximum."""
    before = state.below + state.ties
    shift = maximum - state.ref
    if before == 0.0:  # nothing but −∞ so far: what has a share there makes the sum infinite already
        state.below = state.gaps = 0.0
    else:
        state.weighted += annihilate(state.mass, shift)
        factor = math.exp(-shift)
        state.gaps = factor * (state.gaps + shift * before)
        state.below = factor * before
    state.ties = 0.0
    state.maximum = state.ref = maximum


@inlined
def add_exponentials(state: Any, block: RowBlock, keep: int, ahead: int, vector_bytes: int, zero: Any) -> bool:
    """Takes a block into a row's state; whether it has a new maximum. keep, ahead, vector_bytes: see `exp_sums`."""
    top = largest(block, zero)
    raised = top > state.maximum
    if raised:
        raise_maximum(state, float(top))
    ref = cast(state.ref, zero)
    by = exp_scale(splat(ref))
    below, ties = exp_sums(block, ref, by, keep, ahead, vector_bytes, zero)
    state.unit = float(first_lane(by.unit))
    state.below += below / state.unit
    state.ties += ties
    return raised


@device_function
def finish_softmax(state: Any) -> None:
    """`rest` and `log_rest` of a row that has been read: NaN where it has no finite maximum."""
    rest = state.below + (state.ties - 1.0)
    if not abs(state.maximum) < math.inf:
        rest = math.nan
    state.rest = rest
    state.log_rest = math.log1p(rest)

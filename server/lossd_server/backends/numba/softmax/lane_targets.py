"""Lane targets: what the rows of a tile have once, a row a lane: target, share, gradient's factor; and their losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX
from lossd_server.backends.numba.layout.lane_tiles import LaneTile
from lossd_server.backends.numba.layout.weights import gradient_factor, optional_number
from lossd_server.backends.numba.simd.memory import cast, load, load_number, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import any_of, integers_as, select, splat, to_float64, width
from lossd_server.backends.numba.simd.partial import load_first_integers, store_first
from lossd_server.backends.numba.softmax.lane_state import FACTORS, KEPT, LOSSES, PICKED, SHARES, TARGETS
from lossd_server.jobs.jit import device_function, inlined
from lossd_server.jobs.reduction import annihilate


@device_function
def look_up_together(
    job: Any, tile: LaneTile, logits: int, class_step: int, row_step: int, dtype: int, scratch: int, zero: Any
) -> bool:
    """`look_up` of class indices without weights, in vectors; False where a target is no class."""
    y = load_first_integers(job.target + 8 * tile.row, tile.rows, job.ignore_index, zero)
    kept = y != job.ignore_index
    if any_of(kept & ((y < 0) | (y >= tile.classes))):
        return False
    nothing = splat(zero)
    wide = to_float64(nothing)
    store(scratch + TARGETS, select(kept, integers_as(y, zero), nothing - 1.0))
    store(scratch + KEPT, select(kept, nothing + 1.0, nothing))
    store(scratch + SHARES, select(kept, wide + (1.0 - job.label_smoothing), wide))
    store(scratch + FACTORS, wide + job.scale)
    size = width(zero)
    for r in range(tile.rows):
        row_y = load_one(job.target + 8 * (tile.row + r), np.int64(0))
        row_y = 0 if row_y == job.ignore_index else row_y
        picked = load_number(logits + row_y * class_step + r * row_step, dtype, zero)
        store_one(scratch + PICKED + r * size, picked)
    return True


@device_function
def look_up(
    job: Any, tile: LaneTile, logits: int, class_step: int, row_step: int, dtype: int, scratch: int, zero: Any
) -> int:
    """Lays the rows' targets, shares and factors in scratch; the first row whose target is no class, or −1.

    logits: where they lie, the bytes from class to class and from row to row, and what they are.
    """
    weighted = job.class_weight != 0 or job.row_weight != 0 or job.row_upstream != 0
    together = job.formula == CROSS_ENTROPY_INDEX and not weighted
    if together and look_up_together(job, tile, logits, class_step, row_step, dtype, scratch, zero):
        return -1
    size = width(zero)
    for r in range(tile.rows):
        row = tile.row + r
        kept = 1.0
        if job.formula == CROSS_ENTROPY_INDEX:
            y = load_one(job.target + 8 * row, np.int64(0))
            if y == job.ignore_index:
                y = np.int64(-1)
                kept = 0.0
            elif y < 0 or y >= tile.classes:
                return row
            picked = load_number(logits + max(y, 0) * class_step + r * row_step, dtype, zero)
            store_one(scratch + PICKED + r * size, picked)
            share = kept * (1.0 - job.label_smoothing)
            if kept:
                share = annihilate(share, optional_number(job.class_weight, y, zero))
            store_one(scratch + SHARES + r * 8, share)
            store_one(scratch + TARGETS + r * size, cast(y, zero))
        store_one(scratch + KEPT + r * size, cast(kept, zero))
        store_one(scratch + FACTORS + r * 8, gradient_factor(job, row))
    return -1


@inlined
def write_lane_losses(job: Any, tile: LaneTile, losses: Any, scratch: int, zero: Any) -> None:
    """Stores the tile's losses: 0 for ignored rows, times the row's weight for others."""
    kept = load(scratch + KEPT, zero) > 0.0
    losses = select(kept, losses, 0.0)
    if not job.row_weight:
        store_first(job.losses + 8 * tile.row, tile.rows, losses)
        return
    store(scratch + LOSSES, losses)
    for r in range(tile.rows):
        loss = load_one(scratch + LOSSES + 8 * r, 0.0)
        weight = optional_number(job.row_weight, tile.row + r, 0.0)
        store_one(job.losses + 8 * (tile.row + r), annihilate(weight, loss))

"""Row-per-lane auxiliary outputs: as `auxiliary_outputs`, of a tile whose rows are lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX
from lossd_server.backends.numba.layout.lane_tiles import LaneTile
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import select, splat, to_float64, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.auxiliary_outputs import store_finished
from lossd_server.backends.numba.softmax.lane_state import CLASSES, FACTORS, OUTPUTS, LaneSums
from lossd_server.jobs.jit import device_function


@device_function
def first_greatest(logits: int, classes: int, top: Any, zero: Any) -> Any:
    """Index of the first of the greatest logits, row by row."""
    first = splat(zero) - 1.0
    for c in range(classes):
        first = select((load(logits + c * BYTES, zero) == top) & (first < 0.0), cast(c, zero), first)
    return first


@device_function
def write_measures(job: Any, tile: LaneTile, sums: LaneSums, scratch: int, zero: Any) -> None:
    """The tile's entries in those arrays of log-sum-exp, entropy, argmax and correctness that were asked for."""
    firsts = scratch + OUTPUTS
    lses = firsts + BYTES
    entropies = lses + 2 * BYTES
    first = first_greatest(scratch + CLASSES, tile.classes, sums.top, zero)
    store(firsts, select(sums.below == sums.below, first, -1.0))  # −1 where the row has NaN
    store(lses, to_float64(sums.top) + sums.log_rest)
    store(entropies, sums.log_rest + sums.gaps / (sums.rest + 1.0))
    for r in range(tile.rows):
        row = tile.row + r
        index = np.int64(load_one(firsts + r * width(zero), zero))
        if job.lse:
            store_one(job.lse + 8 * row, load_one(lses + 8 * r, 0.0))
        if job.entropy:
            store_one(job.entropy + 8 * row, load_one(entropies + 8 * r, 0.0))
        if job.argmax:
            store_one(job.argmax + 8 * row, index)
        if job.correct:
            y = load_one(job.target + 8 * row, np.int64(0)) if job.formula == CROSS_ENTROPY_INDEX else np.int64(-1)
            correct = y >= 0 and y == index and y != job.ignore_index
            store_one(job.correct + row, np.uint8(correct))


@device_function
def keep_finished(job: Any, tile: LaneTile, sums: LaneSums, scratch: int, zero: Any) -> None:
    """What the gradient of class weights needs of each row: see `class_weight_gradient`."""
    firsts = scratch + OUTPUTS
    log_rests = firsts + BYTES
    store(firsts, sums.first)
    store(log_rests, sums.log_rest)
    for r in range(tile.rows):
        first = max(0.0, float(load_one(firsts + r * width(zero), zero)))
        log_rest = load_one(log_rests + 8 * r, 0.0)
        store_finished(job, tile.row + r, first, log_rest, load_one(scratch + FACTORS + 8 * r, 0.0))

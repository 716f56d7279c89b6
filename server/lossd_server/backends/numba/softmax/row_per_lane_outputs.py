"""By-products of rows that are lanes: as `auxiliary_outputs`, and softcap as in `softcap`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, FINISHED
from lossd_server.backends.numba.simd.math import tanh_and_slope
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import select, splat, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function


@device_function
def cap_classes(to: int, slopes: int, classes: int, bound: float, zero: Any) -> None:
    """Caps a tile's logits and leaves d capped / d x at `slopes`."""
    k = splat(cast(bound, zero))
    for c in range(classes):
        value, slope = tanh_and_slope(load(to + c * BYTES, zero), k)
        store(to + c * BYTES, value * k)
        store(slopes + c * BYTES, slope)


@device_function
def first_greatest(logits: int, classes: int, top: Any, zero: Any) -> Any:
    """Index of the first of the greatest logits, row by row."""
    first = splat(zero) - 1.0
    for c in range(classes):
        first = select((load(logits + c * BYTES, zero) == top) & (first < 0.0), cast(c, zero), first)
    return first


@device_function
def write_rows(job: Any, first_row: int, rows: int, first: Any, lse: Any, entropy: Any, room: int, zero: Any) -> None:
    """The tile's entries in those arrays that were asked for. `first` is −1 where a row has NaN."""
    lses = room + BYTES
    entropies = room + 3 * BYTES
    store(room, first)
    store(lses, lse)
    store(entropies, entropy)
    for r in range(rows):
        row = first_row + r
        index = np.int64(load_one(room + r * width(zero), zero))
        if job.lse:
            store_one(job.lse + 8 * row, load_one(lses + 8 * r, 0.0))
        if job.entropy:
            store_one(job.entropy + 8 * row, load_one(entropies + 8 * r, 0.0))
        if job.argmax:
            store_one(job.argmax + 8 * row, index)
        if job.correct:
            y = load_one(job.target + 8 * row, np.int64(0)) if job.formula == CROSS_ENTROPY_INDEX else np.int64(-1)
            met = y >= 0 and y == index and y != job.ignore_index
            store_one(job.correct + row, np.uint8(met))


@device_function
def write_finished(job: Any, where: Any, first: Any, nats: Any, factors: int, room: int, zero: Any) -> None:
    """What the gradient of class weights needs of each row, where = (first row, rows): see `class_weight_gradient`."""
    first_row, rows = where
    store(room, first)
    store(room + BYTES, nats)
    for r in range(rows):
        kept = job.finished + 8 * FINISHED * (first_row + r)
        store_one(kept, max(0.0, float(load_one(room + r * width(zero), zero))))
        store_one(kept + 8, load_one(room + BYTES + 8 * r, 0.0))
        store_one(kept + 16, load_one(factors + 8 * r, 0.0))

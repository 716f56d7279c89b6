"""Picked-class kernel: losses that take one entry of a row, NLL and cross-entropy of (log-)probabilities with an index.

Computed in float64 whatever the type: a row costs one entry, not its classes. The gradient's other entries are 0 from
the start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CLASS_OUT_OF_RANGE, PROBABILITIES
from lossd_server.backends.numba.layout.blocks import load_block, store_block
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.row_tiles import entry, tile_at
from lossd_server.backends.numba.layout.scratch import INPUT, STAGED
from lossd_server.backends.numba.layout.weights import gradient_factor, optional_number
from lossd_server.backends.numba.simd.memory import FLOAT32, load_one, size_of, store_one
from lossd_server.jobs.jit import device_function, inlined, njit
from lossd_server.jobs.reduction import annihilate


@device_function
def class_weight(job: Any, y: int) -> float:
    """w[y]; 1 where there are none."""
    if job.class_weight_dtype == FLOAT32:
        return optional_number(job.class_weight, y, np.float32(0))
    return optional_number(job.class_weight, y, 0.0)


@inlined
def pick(job: Any, row: int, scratch: int) -> bool:
    """A row's loss and gradient; False where the target is no class."""
    y = load_one(job.target + 8 * row, np.int64(0))
    store_one(job.losses + 8 * row, 0.0)
    if y == job.ignore_index:
        return True
    if y < 0 or y >= job.classes:
        return False
    index = entry(tile_at(job, row, row + 1), y, 0)
    at = scratch + INPUT
    stage = scratch + STAGED
    load_block(at, job.input + index * size_of(job.input_dtype), 1, job.input_dtype, 0.0, stage)
    x = load_one(at, 0.0)
    w = class_weight(job, y)
    weight = optional_number(job.row_weight, row, 0.0)
    of_probabilities = job.input_kind == PROBABILITIES
    u = math.log(x) if of_probabilities else x
    store_one(job.losses + 8 * row, annihilate(weight, annihilate(w, 0.0 - u)))
    if job.input_gradient:
        slope = 0.0 - annihilate(gradient_factor(job, row), w)
        store_one(at, annihilate(slope, 1.0 / x) if of_probabilities else slope)
        dtype = job.input_gradient_dtype
        store_block(job.input_gradient + index * size_of(dtype), at, 1, dtype, 0.0, stage)
    return True


@inlined
def picked_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job, until one has a fault: (fault, index)."""
    for row in range(begin, end):
        if not pick(job, row, scratch):
            return CLASS_OUT_OF_RANGE, row
    return -1, 0


@njit
def pick_rows(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """Losses of one entry a row: see `for_each_piece`."""
    for_each_piece(picked_piece, jobs, pieces, counter, scratch, zero)

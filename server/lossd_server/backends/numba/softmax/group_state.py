"""Group state: rows that are computed together, where they are read, and how scratch is laid out for them.

What a group has besides is in `lane_state`: it is finished a row a lane.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lossd_server.backends.numba.layout.blocks import PITCH, dtype_of, load_block, vector_count
from lossd_server.backends.numba.layout.row_tiles import RowTile, load_tile, tile_at
from lossd_server.backends.numba.layout.scratch import STAGED, TARGET_OUT, UPSTREAM
from lossd_server.backends.numba.simd.memory import BFLOAT16, FLOAT16, cast, load, load_as, size_of
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.partial import load_first, load_first_narrow
from lossd_server.backends.numba.simd.transpose import SIDE_BYTES
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function

KEPT_BYTES = 1 << 16  # exponentials that wait for their group: the second pass finds them in the cache

# Scratch: 64 bytes of sums a row, and squares of them turned.
SQUARE = UPSTREAM
TURNED = SQUARE + BYTES // 4 * SIDE_BYTES
# One number a row: of the compute type, then of 8 bytes.
LANE_TOP = TURNED + SIDE_BYTES * SIDE_BYTES // 4
LANE_Q = LANE_TOP + BYTES
LANE_APART = LANE_Q + BYTES
LANE_LATE = LANE_APART + BYTES
LANE_AT_TARGET = LANE_LATE + BYTES
LANE_OUT = LANE_AT_TARGET + BYTES  # the same in the gradient's dtype
LANE_BELOW = LANE_OUT + BYTES
LANE_TIES = LANE_BELOW + 2 * BYTES
LANE_ORDER = LANE_TIES + 2 * BYTES
END = LANE_ORDER + 2 * BYTES


class RowGroup(NamedTuple):
    """Rows of `dtype` that lie `pitch` bytes apart: `whole` vectors, then `left` < lanes numbers.

    kept: where their exponentials go, `kept_pitch` apart; 0 where these are not wanted. tile: where they come from.
    """

    at: int
    pitch: int
    dtype: int
    whole: int
    left: int
    kept: int
    kept_pitch: int
    tile: RowTile


@device_function
def group_at(job: Any, row: int, end: int, kept: int, scratch: int, zero: Any) -> RowGroup:
    """The group that begins with a row of a job and ends before row `end`: a row a lane, fewer where exponentials are
    kept. Contiguous rows are read where they lie, 16-bit ones too; others are brought to scratch.
    """
    size = width(zero)
    lanes = BYTES // size
    classes = job.classes
    kept_pitch = vector_count(classes, size) * BYTES
    most = min(lanes, max(1, KEPT_BYTES // kept_pitch))
    dtype = job.input_dtype
    tile = RowTile(classes, 1, row, row, 0, min(most, end - row))
    if job.inner == 1 and (dtype == dtype_of(zero) or (size_of(dtype) == 2 and size == 4)):
        pitch = classes * size_of(dtype)
        at = job.input + row * pitch
        return RowGroup(at, pitch, dtype, classes // lanes, classes % lanes, kept, kept_pitch, tile)
    to, lowest = scratch + TARGET_OUT, cast(-math.inf, zero)
    if job.inner > 1:
        wide = tile_at(job, row, end)
        tile = RowTile(classes, wide.stride, row, wide.outer, wide.inner, min(wide.rows, most))
        load_tile(to, job.input, dtype, tile, 0, classes, lowest, scratch + STAGED)
    else:
        step = classes * size_of(dtype)
        for r in range(tile.rows):
            load_block(to + r * PITCH, job.input + (row + r) * step, classes, dtype, lowest, scratch + STAGED)
    kept_pitch = PITCH if job.inner > 1 else kept_pitch  # as `store_tile` wants them
    return RowGroup(to, PITCH, dtype_of(zero), vector_count(classes, size), 0, kept, kept_pitch, tile)


@device_function
def row_vector(at: int, j: int, dtype: int, zero: Any) -> Any:
    """Vector j of a row of `dtype` that begins at an address."""
    if width(zero) == 4:
        if dtype == BFLOAT16:
            return load_as(at + j * (BYTES // 2), zero, BFLOAT16)
        if dtype == FLOAT16:
            return load_as(at + j * (BYTES // 2), zero, FLOAT16)
    return load(at + j * BYTES, zero)


@device_function
def row_tail(rows: RowGroup, at: int, zero: Any) -> Any:
    """The `left` last numbers of such a row; −∞ in the other lanes."""
    lowest = cast(-math.inf, zero)
    if width(zero) == 4:
        tail = at + rows.whole * (BYTES // 2)
        if rows.dtype == BFLOAT16:
            return load_first_narrow(tail, rows.left, lowest, BFLOAT16)
        if rows.dtype == FLOAT16:
            return load_first_narrow(tail, rows.left, lowest, FLOAT16)
    return load_first(at + rows.whole * BYTES, rows.left, lowest)

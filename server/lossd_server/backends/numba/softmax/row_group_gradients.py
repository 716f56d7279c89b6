"""Row-group softmax gradients: of rows whose exponentials are kept, once their group is finished."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.backends.numba.layout.blocks import dtype_of, store_block, vector_count
from lossd_server.backends.numba.layout.row_tiles import store_tile
from lossd_server.backends.numba.layout.scratch import STAGED
from lossd_server.backends.numba.simd.exponential import exp_scale, scaled_exp
from lossd_server.backends.numba.simd.math import product, times
from lossd_server.backends.numba.simd.memory import (
    BFLOAT16,
    FLOAT16,
    copy_bytes,
    load,
    load_one,
    size_of,
    store,
    store_as,
    store_one,
    zero_bytes,
)
from lossd_server.backends.numba.simd.operations import select, splat, width
from lossd_server.backends.numba.simd.partial import store_first
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import store_vector
from lossd_server.backends.numba.softmax.gradients import PAST_CACHE_BYTES, PAST_CACHE_ROW
from lossd_server.backends.numba.softmax.group_state import (
    LANE_APART,
    LANE_AT_TARGET,
    LANE_LATE,
    LANE_OUT,
    LANE_Q,
    RowGroup,
)
from lossd_server.backends.numba.softmax.lane_state import KEPT, PICKED, LaneSums
from lossd_server.backends.numba.softmax.row_per_lane_gradients import coefficients
from lossd_server.jobs.jit import device_function, inlined


@device_function
def scale_apart(at: int, vectors: int, lane: int, zero: Any) -> None:
    """A row's gradient, in the place of its exponentials, where a factor is not finite."""
    q = splat(load_one(lane + LANE_Q, zero))
    late = splat(load_one(lane + LANE_LATE, zero))
    for j in range(vectors):
        store(at + j * BYTES, product(times(load(at + j * BYTES, zero), q), late))


@device_function
def scale_row(at: int, whole: int, left: int, to: int, q: Any, near: int, past: bool, zero: Any) -> None:
    """A row's gradient, from its exponentials: q·e, but for the target. near: the vector that the target lies in."""
    if past:
        for j in range(whole):
            store_vector(to + j * BYTES, load(at + j * BYTES, zero) * q, j != near)
    else:
        for j in range(whole):
            store(to + j * BYTES, load(at + j * BYTES, zero) * q)
    if left:
        store_first(to + whole * BYTES, left, load(at + whole * BYTES, zero) * q)


@device_function
def scale_and_round(at: int, whole: int, left: int, to: int, dtype: int, q: Any, stage: int, zero: Any) -> None:
    """The same rounded to 16 bits."""
    half = BYTES // width(zero) * 2
    if dtype == BFLOAT16:
        for j in range(whole):
            store_as(to + j * half, load(at + j * BYTES, zero) * q, BFLOAT16)
        if left:
            store_as(stage, load(at + whole * BYTES, zero) * q, BFLOAT16)
    else:
        for j in range(whole):
            store_as(to + j * half, load(at + j * BYTES, zero) * q, FLOAT16)
        if left:
            store_as(stage, load(at + whole * BYTES, zero) * q, FLOAT16)
    if left:
        copy_bytes(to + whole * half, stage, left * 2)


@device_function
def lay_coefficients(job: Any, classes: int, sums: LaneSums, scratch: int, zero: Any) -> None:
    """What the rows' gradients are made of, a row a lane: factors, and the gradient at the target."""
    of = coefficients(job, classes, sums, False, scratch, zero)
    picked = load(scratch + PICKED, zero)
    at_target = scaled_exp(picked, exp_scale(sums.ref))
    rare = of.apart > 0.0
    at_target = select(rare, times(at_target, of.q), at_target * of.q) - of.at_target
    at_target = select(picked == sums.ref, of.at_first, at_target)
    store(scratch + LANE_AT_TARGET, select(rare, product(at_target, of.late), at_target))
    store(scratch + LANE_Q, of.q)
    store(scratch + LANE_APART, of.apart)
    store(scratch + LANE_LATE, of.late)
    dtype = job.input_gradient_dtype
    store_block(scratch + LANE_OUT, scratch + LANE_AT_TARGET, BYTES // width(zero), dtype, zero, scratch + STAGED)


@device_function
def store_row_gradient(job: Any, rows: RowGroup, r: int, to: int, y: int, past: bool, scratch: int, zero: Any) -> None:
    """A row's gradient to its place in the answer. y: its target."""
    size = width(zero)
    lanes = BYTES // size
    classes = rows.tile.classes
    dtype = job.input_gradient_dtype
    at, whole, left = rows.kept + r * rows.kept_pitch, classes // lanes, classes % lanes
    lane = scratch + r * size
    if load_one(lane + LANE_APART, zero) > 0:
        scale_apart(at, vector_count(classes, size), lane, zero)
        store_block(to, at, classes, dtype, zero, scratch + STAGED)
    elif dtype == dtype_of(zero):
        q = splat(load_one(lane + LANE_Q, zero))
        scale_row(at, whole, left, to, q, y // lanes, past and to % 64 == 0, zero)
    elif size_of(dtype) == 2:
        q = splat(load_one(lane + LANE_Q, zero))
        scale_and_round(at, whole, left, to, dtype, q, scratch + STAGED, zero)
    else:
        q = splat(load_one(lane + LANE_Q, zero))
        scale_row(at, vector_count(classes, size), 0, at, q, -1, False, zero)
        store_block(to, at, classes, dtype, zero, scratch + STAGED)
    if size_of(dtype) == 2:
        store_one(to + 2 * y, load_one(scratch + LANE_OUT + 2 * r, np.uint16(0)))
    elif size_of(dtype) == 4:
        store_one(to + 4 * y, load_one(scratch + LANE_OUT + 4 * r, np.uint32(0)))
    else:
        store_one(to + 8 * y, load_one(scratch + LANE_OUT + 8 * r, np.uint64(0)))


@inlined
def write_group_gradients(job: Any, rows: RowGroup, sums: LaneSums, scratch: int, zero: Any) -> None:
    """The group's gradients: to the answer itself, or by way of scratch where rows are not contiguous."""
    size = width(zero)
    tile = rows.tile
    classes = tile.classes
    lay_coefficients(job, classes, sums, scratch, zero)
    dtype = job.input_gradient_dtype
    large = classes * size >= PAST_CACHE_ROW and job.outer * classes * size > PAST_CACHE_BYTES
    for r in range(tile.rows):
        kept = load_one(scratch + KEPT + r * size, zero) > 0
        y = min(max(load_one(job.target + 8 * (tile.row + r), 0), 0), classes - 1)
        at = rows.kept + r * rows.kept_pitch
        if tile.stride == 1:
            to = job.input_gradient + (tile.row + r) * classes * size_of(dtype)
            if kept:
                store_row_gradient(job, rows, r, to, y, large, scratch, zero)
            else:
                zero_bytes(to, classes * size_of(dtype))
        elif not kept:
            zero_bytes(at, classes * size)
        else:
            lane = scratch + r * size
            if load_one(lane + LANE_APART, zero) > 0:
                scale_apart(at, vector_count(classes, size), lane, zero)
            else:
                q = splat(load_one(lane + LANE_Q, zero))
                scale_row(at, vector_count(classes, size), 0, at, q, -1, False, zero)
            store_one(at + y * size, load_one(lane + LANE_AT_TARGET, zero))
    if tile.stride > 1:
        store_tile(job.input_gradient, rows.kept, dtype, tile, 0, classes, zero, scratch + STAGED)

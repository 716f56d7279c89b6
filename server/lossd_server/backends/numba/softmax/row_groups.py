"""Row-group softmax kernel: cross-entropy of a class, as many rows together as a vector has lanes.

Rows are read one after the other, in vectors; what a row has once is computed for the whole group, a row a lane: the
sums that rows end in are transposed, and everything after that is `row_per_lane`'s. While a row's exponentials are
computed, the maximum of the row after the next is found: its numbers are then in the cache, and nothing waits for a
maximum.
"""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import CLASS_OUT_OF_RANGE, CROSS_ENTROPY_INDEX
from lossd_server.backends.numba.layout.blocks import GROUP, PITCH
from lossd_server.backends.numba.layout.lane_tiles import LaneTile
from lossd_server.backends.numba.layout.scratch import MIXED
from lossd_server.backends.numba.simd.exponential import exp_scale, near_exp, scaled_exp
from lossd_server.backends.numba.simd.math import log1p_any
from lossd_server.backends.numba.simd.memory import (
    load,
    load_one,
    load_wide,
    prefetch,
    size_of,
    store,
    store_one,
    zero_bytes,
)
from lossd_server.backends.numba.simd.operations import (
    count_of,
    first_lane,
    greatest,
    larger,
    select,
    splat,
    to_float64,
    widen_sum,
    width,
)
from lossd_server.backends.numba.simd.partial import load_half, lower_half, upper_half
from lossd_server.backends.numba.simd.transpose import SIDE_BYTES, transpose_square
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.group_state import (
    END,
    LANE_BELOW,
    LANE_ORDER,
    LANE_TIES,
    LANE_TOP,
    SQUARE,
    TURNED,
    RowGroup,
    group_at,
    row_tail,
    row_vector,
)
from lossd_server.backends.numba.softmax.lane_state import KEPT, LaneSums
from lossd_server.backends.numba.softmax.lane_targets import look_up, write_lane_losses
from lossd_server.backends.numba.softmax.row_group_gradients import write_group_gradients
from lossd_server.backends.numba.softmax.row_per_lane import lane_losses
from lossd_server.jobs.jit import device_function, inlined

INFINITY = float("inf")
FEWEST_GROUP_CLASSES = 160  # fewer are a row a lane: a row of 100 takes 20 ns there, and 26 in a group
# What is prefetched: of rows in the second cache what is searched soon, else the next group. From memory
# the first took 40 % longer at 4,096 classes; in the cache the second takes 20 % longer.
CACHED_BYTES = 1 << 20
NEAR_BYTES = 4096
LONG_ROW_BYTES = 6144  # three longer rows leave the first cache: their maxima are found group by group


@device_function
def row_top(rows: RowGroup, at: int, zero: Any) -> Any:
    """A row's greatest entry; NaN is passed over (the sums find it)."""
    top = splat(zero) - INFINITY
    for j in range(rows.whole):
        top = larger(row_vector(at, j, rows.dtype, zero), top)
    if rows.left:
        top = larger(row_tail(rows, at, zero), top)
    return greatest(top)


@device_function
def list_rows(rows: RowGroup, scratch: int, zero: Any) -> int:
    """Lays the numbers of the rows that are not ignored in LANE_ORDER; how many there are."""
    count = 0
    for r in range(rows.tile.rows):
        if load_one(scratch + KEPT + r * width(zero), zero) > 0:
            store_one(scratch + LANE_ORDER + 8 * count, r)
            count += 1
    return count


@device_function
def row_number(k: int, scratch: int) -> int:
    """The k-th of the rows that are not ignored."""
    return load_one(scratch + LANE_ORDER + 8 * k, 0)


def row_sum(looking: bool) -> Any:
    """The function that adds up a row. looking: whether it finds the maximum of another one on the way."""

    @device_function
    def sum_row(rows: RowGroup, r: int, after: int, ahead: int, scratch: int, zero: Any) -> Any:
        """Leaves half a vector of Σ exp(x − ref)·unit over x < ref in row r's line of the square and the number of
        x = ref in LANE_TIES; the greatest entry of the row `after` is what comes back. What lies `ahead` bytes behind
        row r is prefetched, if that is not 0.
        """
        at, next_at = rows.at + r * rows.pitch, rows.at + after * rows.pitch
        dtype, whole = rows.dtype, rows.whole
        vectors = whole + (rows.left > 0)
        keep = rows.kept + r * rows.kept_pitch if rows.kept else 0
        top = load_one(scratch + LANE_TOP + r * width(zero), zero)
        refs = splat(top if top > -INFINITY else zero)
        by = exp_scale(refs)
        near = first_lane(by.shift) == 0
        step = BYTES // width(zero) * size_of(dtype)
        wide = widen_sum(splat(zero))
        next_top = splat(zero) - INFINITY
        others = 0
        for group in range(0, vectors, GROUP):
            narrow = splat(zero)
            for j in range(group, min(group + GROUP, whole)):
                x = row_vector(at, j, dtype, zero)
                if ahead:
                    prefetch(at + ahead + j * step)
                    if step > 64:
                        prefetch(at + ahead + j * step + 64)
                if looking:
                    next_top = larger(row_vector(next_at, j, dtype, zero), next_top)
                e = near_exp(x, by) if near else scaled_exp(x, by)
                if keep:
                    store(keep + j * BYTES, e)
                other = x != refs
                others += count_of(other)
                narrow = select(other, narrow + e, narrow)
            if rows.left and vectors <= group + GROUP:
                x = row_tail(rows, at, zero)
                if looking:
                    next_top = larger(row_tail(rows, next_at, zero), next_top)
                e = scaled_exp(x, by)
                if keep:
                    store(keep + whole * BYTES, e)
                other = x != refs
                others += count_of(other)
                narrow = select(other, narrow + e, narrow)
            wide = wide + widen_sum(narrow)
        store(scratch + SQUARE + r * SIDE_BYTES, lower_half(wide) + upper_half(wide))
        store_one(scratch + LANE_TIES + 8 * r, float(vectors * (BYTES // width(zero)) - others))
        return greatest(next_top)

    return sum_row


sum_and_look = row_sum(True)
sum_alone = row_sum(False)


@device_function
def sum_rows(rows: RowGroup, ahead: int, scratch: int, zero: Any) -> None:
    """`sum_row` of each row that is not ignored. ahead: see `sum_row`."""
    size = width(zero)
    count = list_rows(rows, scratch, zero)
    if rows.pitch > LONG_ROW_BYTES:
        for k in range(count):
            r = row_number(k, scratch)
            store_one(scratch + LANE_TOP + r * size, row_top(rows, rows.at + r * rows.pitch, zero))
        for k in range(count):
            r = row_number(k, scratch)
            sum_alone(rows, r, r, ahead, scratch, zero)
        return
    for k in range(min(count, 2)):
        r = row_number(k, scratch)
        store_one(scratch + LANE_TOP + r * size, row_top(rows, rows.at + r * rows.pitch, zero))
    for k in range(count):
        after = row_number(min(k + 2, count - 1), scratch)
        top = sum_and_look(rows, row_number(k, scratch), after, ahead, scratch, zero)
        store_one(scratch + LANE_TOP + after * size, top)


@device_function
def turn_sums(scratch: int, zero: Any) -> Any:
    """The rows' sums, from the square."""
    turned = scratch + TURNED
    for part in range(BYTES // width(zero) // 8):
        transpose_square(scratch + SQUARE + part * 8 * SIDE_BYTES, SIDE_BYTES, turned, SIDE_BYTES, 0.0)
        below = load_half(turned, 0.0)
        for i in range(1, 8):
            below = below + load_half(turned + i * SIDE_BYTES, 0.0)
        store(scratch + LANE_BELOW + part * SIDE_BYTES, below)
    return load_wide(scratch + LANE_BELOW, zero)


@device_function
def group_sums(rows: RowGroup, ahead: int, scratch: int, zero: Any) -> LaneSums:
    """The sums of a group, a row a lane."""
    zeros = splat(zero)
    sum_rows(rows, ahead, scratch, zero)
    top = load(scratch + LANE_TOP, zero)
    ref = select(top > -INFINITY, top, zeros)
    unit = to_float64(exp_scale(ref).unit)
    below = turn_sums(scratch, zero) / unit
    rest = below + (load_wide(scratch + LANE_TIES, zero) - 1.0)
    # No finite maximum, no softmax: all −∞, or +∞ among them.
    rest = select(to_float64(top - top) == 0.0, rest, math.nan)
    nothing = to_float64(zeros)
    return LaneSums(top, ref, unit, below, rest, log1p_any(rest), nothing, zeros - 1.0, nothing, nothing)


@device_function
def row_group(job: Any, rows: RowGroup, end: int, scratch: int, zero: Any) -> int:
    """Losses and gradients of a group; the first row whose target is no class, or −1."""
    tile = LaneTile(rows.tile.classes, job.inner, rows.tile.row, rows.tile.rows)
    invalid = look_up(job, tile, rows.at, size_of(rows.dtype), rows.pitch, rows.dtype, scratch, zero)
    if invalid >= 0:
        return invalid
    ahead = 0
    if rows.pitch != PITCH and tile.row + 2 * tile.rows <= end:
        cached = job.outer * rows.pitch <= CACHED_BYTES and rows.pitch <= LONG_ROW_BYTES
        ahead = 2 * rows.pitch + NEAR_BYTES if cached else tile.rows * rows.pitch
    sums = group_sums(rows, ahead, scratch, zero)
    write_lane_losses(job, tile, lane_losses(job, sums, scratch, zero), scratch, zero)
    if rows.kept:
        write_group_gradients(job, rows, sums, scratch, zero)
    return -1


@device_function
def grouped(job: Any) -> bool:
    """Whether a job is computed by groups of rows: cross-entropy of a class, and nothing beside."""
    return job.formula == CROSS_ENTROPY_INDEX and job.plain and job.label_smoothing == 0.0


@inlined
def group_rows(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job; (fault, index), fault −1 where there is none."""
    zero_bytes(scratch + SQUARE, END - SQUARE)
    kept = scratch + MIXED if job.input_gradient else 0
    row = begin
    while row < end:
        rows = group_at(job, row, end, kept, scratch, zero)
        invalid = row_group(job, rows, end, scratch, zero)
        if invalid >= 0:
            return CLASS_OUT_OF_RANGE, invalid
        row += rows.tile.rows
    return -1, 0

"""Row-per-block softmax kernel: the softmax family for many classes, row by row in blocks of classes.

A loss takes one read of its row (see `online_softmax`), a gradient one more where the row does not fit a block. What is
computed for a row depends on (formula, C, type) alone, wherever its entries lie.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import (
    CLASS_OUT_OF_RANGE,
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
    LOG_SOFTMAX,
    SOFTMAX,
)
from lossd_server.backends.numba.layout.blocks import (
    BLOCK,
    NO_BLOCK,
    PITCH,
    RowBlock,
    in_scratch,
    row_of,
    vector_count,
)
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.row_tiles import RowTile, entry, for_each_tile
from lossd_server.backends.numba.layout.scratch import EXPONENTIALS, MIXED, SINGLE
from lossd_server.backends.numba.layout.weights import gradient_factor, optional_number
from lossd_server.backends.numba.simd.memory import cast, load_one, size_of, store_one, zero_bytes
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.activations import activate
from lossd_server.backends.numba.softmax.auxiliary_outputs import write_outputs
from lossd_server.backends.numba.softmax.block_sums import entropy_sum, first_equal, gap_sum, plain_sum
from lossd_server.backends.numba.softmax.gradients import KeptExponentials, write_gradients
from lossd_server.backends.numba.softmax.lane_state import MOST_LANE_CLASSES
from lossd_server.backends.numba.softmax.logits import logit, read_block
from lossd_server.backends.numba.softmax.online_softmax import add_exponentials, finish_softmax
from lossd_server.backends.numba.softmax.row_groups import FEWEST_GROUP_CLASSES, group_rows, grouped
from lossd_server.backends.numba.softmax.row_per_lane import lane_rows
from lossd_server.backends.numba.softmax.row_state import empty_state, row_state
from lossd_server.backends.numba.softmax.target_mix import has_target_mix, mix
from lossd_server.jobs.jit import device_function, inlined, njit
from lossd_server.jobs.reduction import annihilate

KEPT_BYTES = 1 << 18  # exponentials of a long row that the second cache holds: cheaper than to compute them again
LONG = 2048  # classes from which rows are worth prefetching: shorter ones the processor fetches by itself


@device_function
def start_row(job: Any, tile: RowTile, r: int, scratch: int, zero: Any) -> bool:
    """Empties a row's state and looks its target up; False where the target is no class."""
    state = empty_state(scratch, r)
    state.rest_mass = math.nan
    if job.formula != CROSS_ENTROPY_INDEX:
        return True
    y = load_one(job.target + 8 * (tile.row + r), np.int64(0))
    if y == job.ignore_index:
        state.kept = 0
        return True
    if y < 0 or y >= tile.classes:
        state.kept = 0
        return False
    state.target = y
    state.picked = logit(job, tile, y, r, scratch, zero)
    state.share = annihilate(1.0 - job.label_smoothing, optional_number(job.class_weight, y, zero))
    return True


@device_function
def room_for_exponentials(job: Any, tile: RowTile, mixed: bool, scratch: int, zero: Any) -> int:
    """Where a row's exponentials are kept for its entropy and its gradient; 0 where they are computed again."""
    if tile.stride > 1 or not (job.input_gradient or job.formula == ENTROPY_LOGITS or job.entropy):
        return 0
    if tile.classes <= BLOCK:
        return scratch + EXPONENTIALS
    plain = job.formula == CROSS_ENTROPY_INDEX and not mixed and job.softcap == 0.0
    if plain and width(zero) == 4 and tile.classes * 4 <= KEPT_BYTES:  # in float64 the difference of refs would round
        return scratch + MIXED
    return 0


@device_function
def next_block(job: Any, tile: RowTile, begin: int, zero: Any) -> tuple[int, int]:
    """Where the block of classes `begin` … lies, and its bytes a vector; 0 where prefetching does not pay."""
    if tile.stride > 1 or tile.classes < LONG:
        return 0, 0
    size = size_of(job.input_dtype)
    return job.input + entry(tile, begin, 0) * size, BYTES // width(zero) * size


@inlined
def read_rows(job: Any, tile: RowTile, mixed: bool, kept: int, scratch: int, zero: Any) -> RowBlock:
    """The one read of a tile's logits, into its rows' states; the last block of its first row."""
    gaps = job.formula == ENTROPY_LOGITS or job.entropy != 0
    first = mixed or job.formula == SOFTMAX or job.formula == LOG_SOFTMAX or job.argmax != 0 or job.correct != 0
    block = NO_BLOCK
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        block = read_block(job, tile, begin, n, scratch, zero)
        if mixed:
            mix(job, tile, begin, n, scratch, zero)
        keep = kept + begin * width(zero) if kept else 0
        ahead, vector_bytes = next_block(job, tile, begin + n, zero)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            own = row_of(block, r)
            raised = add_exponentials(state, own, keep, ahead, vector_bytes, zero)
            if raised and first:
                state.first = begin + first_equal(own, cast(state.maximum, zero), zero)
            ref = cast(state.ref, zero)
            if gaps:
                state.gaps += entropy_sum(own, keep, ref, zero)
            if mixed:
                v = scratch + MIXED + r * PITCH
                state.weighted += gap_sum(own, v, ref, zero)
                state.mass += plain_sum(v, own.vectors, zero)
        if kept and tile.classes > BLOCK:
            state = row_state(scratch, 0)
            store_one(scratch + SINGLE + begin // BLOCK * 16, state.ref)
            store_one(scratch + SINGLE + begin // BLOCK * 16 + 8, state.unit)
    return block


@device_function
def finish_row(job: Any, row: int, state: Any) -> float:
    """The row's loss, from its state; what the gradient needs is left there."""
    finish_softmax(state)
    rest = state.rest
    log_rest = state.log_rest
    weight = optional_number(job.row_weight, row, 0.0)
    state.factor = gradient_factor(job, row)
    if job.formula == ENTROPY_LOGITS:
        return annihilate(weight, log_rest + state.gaps / (1.0 + rest))
    loss = annihilate(state.mass, log_rest) + state.weighted
    if job.formula == CROSS_ENTROPY_INDEX:
        loss += annihilate(state.share, (state.maximum - state.picked) + log_rest)
    if job.z_loss != 0.0:
        lse = state.maximum + log_rest
        state.z_mass = 2.0 * job.z_loss * lse
        loss += job.z_loss * lse * lse
    return annihilate(weight, loss)


@inlined
def finish_rows(job: Any, tile: RowTile, scratch: int) -> None:
    """Losses and auxiliary outputs of a tile that has been read."""
    for r in range(tile.rows):
        row = tile.row + r
        state = row_state(scratch, r)
        loss = finish_row(job, row, state)
        if not job.plain:
            write_outputs(job, row, state)
        if job.losses:
            store_one(job.losses + 8 * row, loss if state.kept else 0.0)


@inlined
def rest_mass(job: Any, tile: RowTile, scratch: int, zero: Any) -> None:
    """Σ v without the first maximum, summed apart: the difference of two sums is not exact enough in float64, and of
    infinite sums none.
    """
    for r in range(tile.rows):
        row_state(scratch, r).rest_mass = 0.0
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            mix(job, tile, begin, n, scratch, zero)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            v = scratch + MIXED + r * PITCH
            at = v + (state.first - begin) * width(zero)
            inside = v <= at < v + n * width(zero)
            own = load_one(at, zero) if inside else zero
            if inside:
                store_one(at, zero)
            state.rest_mass += plain_sum(v, vector_count(n, width(zero)), zero)
            if inside:
                store_one(at, own)


@device_function
def infinite_mass(tile: RowTile, scratch: int) -> bool:
    """Whether a row of the tile has an infinite share."""
    whole = 0.0
    for r in range(tile.rows):
        whole += row_state(scratch, r).mass
    return not abs(whole) < math.inf


@inlined
def differentiate_rows(
    job: Any, tile: RowTile, block: RowBlock, mixed: bool, kept: int, scratch: int, zero: Any
) -> None:
    """The gradients of a tile whose rows are finished. block: of its one block of classes, if that is all."""
    if mixed and (width(zero) == 8 or infinite_mass(tile, scratch)):
        rest_mass(job, tile, scratch, zero)
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        exponentials = KeptExponentials(kept, 1.0)
        if kept and tile.classes > BLOCK:
            state = row_state(scratch, 0)
            ref = load_one(scratch + SINGLE + begin // BLOCK * 16, 0.0)
            unit = load_one(scratch + SINGLE + begin // BLOCK * 16 + 8, 0.0)
            rescale = math.exp(ref - state.ref) * (state.unit / unit)
            exponentials = KeptExponentials(kept + begin * width(zero), rescale)
            block = in_scratch(0, vector_count(n, width(zero)))
        elif tile.classes > BLOCK:
            block = read_block(job, tile, begin, n, scratch, zero)
            if mixed:
                mix(job, tile, begin, n, scratch, zero)
        write_gradients(job, tile, begin, n, block, mixed, exponentials, scratch, zero)


@device_function
def softmax_tile(job: Any, tile: RowTile, scratch: int, zero: Any) -> tuple[int, int]:
    """Losses and gradients of a tile of rows; (fault, index), fault −1 where there is none."""
    for r in range(tile.rows):
        if not start_row(job, tile, r, scratch, zero):
            return CLASS_OUT_OF_RANGE, tile.row + r
    mixed = has_target_mix(job)
    kept = room_for_exponentials(job, tile, mixed, scratch, zero)
    ignored = tile.stride == 1 and not row_state(scratch, 0).kept and job.plain  # not read, as no output needs it
    block = NO_BLOCK
    if not ignored:
        block = read_rows(job, tile, mixed, kept, scratch, zero)
    finish_rows(job, tile, scratch)
    if job.formula == SOFTMAX or job.formula == LOG_SOFTMAX:
        activate(job, tile, block, scratch, zero)
    elif ignored and job.input_gradient:
        size = size_of(job.input_gradient_dtype)
        zero_bytes(job.input_gradient + entry(tile, 0, 0) * size, tile.classes * size)
    elif not ignored and (job.input_gradient or job.target_gradient):
        differentiate_rows(job, tile, block, mixed, kept, scratch, zero)
    return -1, 0


@inlined
def softmax_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job: in lanes where they are short, in groups up to a block; (fault, index)."""
    if FEWEST_GROUP_CLASSES <= job.classes <= BLOCK and grouped(job):
        return group_rows(job, begin, end, scratch, zero)
    if job.classes <= MOST_LANE_CLASSES and job.formula != SOFTMAX and job.formula != LOG_SOFTMAX:
        return lane_rows(job, begin, end, scratch, zero)
    return for_each_tile(softmax_tile, job, begin, end, scratch, zero)


@njit
def softmax_rows(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """The softmax family: see `for_each_piece`."""
    for_each_piece(softmax_piece, jobs, pieces, counter, scratch, zero)

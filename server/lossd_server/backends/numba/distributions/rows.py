"""Distribution-loss kernel: losses between a row's input, of any kind, and its target distribution.

These are cross-entropy of log-probabilities, probabilities and counts, and KL divergence where one of its kinds is
normalised over its row. Three passes over a row: what normalises it, its losses, its gradients. A row of one block is
read once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import (
    CLASS_OUT_OF_RANGE,
    COUNTS,
    CROSS_ENTROPY_KINDS_INDEX,
    EMPTY_COUNTS,
    KL_ROWS,
    LOG_PROBABILITIES,
    LOGITS,
    NEGATIVE_COUNT,
)
from lossd_server.backends.numba.distributions.block_math import (
    LossKinds,
    sum_losses,
    sum_others,
    write_exact_slope,
    write_logarithms,
    write_probabilities,
    write_slopes,
)
from lossd_server.backends.numba.distributions.entropy import counts_sum, first_negative
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, fill, in_scratch, vector_count
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.row_tiles import TILE, RowTile, entry, for_each_tile, load_tile, store_tile
from lossd_server.backends.numba.layout.scratch import (
    INPUT,
    MIXED,
    SINGLE,
    SLOPES,
    STAGED,
    TARGET_OUT,
    UPSTREAM,
    WEIGHTS,
)
from lossd_server.backends.numba.layout.weights import gradient_factor, optional_number
from lossd_server.backends.numba.simd.memory import cast, load_one, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.softmax.auxiliary_outputs import store_finished
from lossd_server.backends.numba.softmax.block_sums import first_equal, largest
from lossd_server.backends.numba.softmax.online_softmax import add_exponentials, finish_softmax
from lossd_server.backends.numba.softmax.row_state import empty_state, row_state
from lossd_server.backends.numba.softmax.target_mix import mix
from lossd_server.jobs.jit import device_function, inlined, njit
from lossd_server.jobs.reduction import annihilate


@inlined
def start_distribution(job: Any, tile: RowTile, r: int, scratch: int) -> bool:
    """Empties the states of a row's input and target, and looks up a target of a class; False where it is none."""
    empty_state(scratch, TILE + r)
    state = empty_state(scratch, r)
    state.target = -1
    if job.formula != CROSS_ENTROPY_KINDS_INDEX:
        return True
    y = load_one(job.target + 8 * (tile.row + r), np.int64(0))
    state.target = y
    if y == job.ignore_index:
        state.kept = 0
        return True
    return 0 <= y < tile.classes


@device_function
def read_distribution(job: Any, tile: RowTile, begin: int, n: int, scratch: int, zero: Any) -> None:
    """Lays a tile's block of the input, the target (or v) and the upstream gradient in scratch."""
    stage = scratch + STAGED
    lowest = cast(-math.inf, zero)
    pad = lowest if job.input_kind == LOGITS else zero
    load_tile(scratch + INPUT, job.input, job.input_dtype, tile, begin, n, pad, stage)
    if job.formula != KL_ROWS:
        mix(job, tile, begin, n, scratch, zero)
        for r in range(tile.rows):
            y = row_state(scratch, r).target - begin
            if 0 <= y < n:
                at = scratch + MIXED + r * PITCH + y * width(zero)
                share = annihilate(1.0 - job.label_smoothing, optional_number(job.class_weight, begin + y, zero))
                store_one(at, cast(load_one(at, zero) + share, zero))
        return
    pad = lowest if job.target_kind == LOGITS or job.target_kind == LOG_PROBABILITIES else zero
    load_tile(scratch + MIXED, job.target, job.target_dtype, tile, begin, n, pad, stage)
    if job.upstream:
        load_tile(scratch + UPSTREAM, job.upstream, job.upstream_dtype, tile, begin, n, zero, stage)


@inlined
def add_logits(state: Any, row: int, begin: int, vectors: int, first: bool, zero: Any) -> None:
    """Takes a block of logits into what normalises its row; first: whether the index of the greatest is wanted."""
    block = in_scratch(row, vectors)
    raised = add_exponentials(state, block, 0, 0, 0, zero)
    if raised and first:
        state.first = begin + first_equal(block, cast(state.maximum, zero), zero)


@inlined
def add_counts(state: Any, row: int, begin: int, n: int, zero: Any) -> int:
    """Takes a block of counts into what normalises its row; the index of a negative one, or −1."""
    vectors = vector_count(n, width(zero))
    block = in_scratch(row, vectors)
    mass, good = counts_sum(row, vectors, zero)
    state.mass += mass
    top = largest(block, zero)
    if top > state.maximum:
        state.maximum = top
        state.first = begin + first_equal(block, top, zero)
    return -1 if good else first_negative(row, n, zero)


@inlined
def normalise(job: Any, tile: RowTile, scratch: int, zero: Any) -> tuple[int, int]:
    """The first pass: what normalises a tile's rows; (fault, index), fault −1 where there is none."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        vectors = vector_count(n, width(zero))
        read_distribution(job, tile, begin, n, scratch, zero)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            row = scratch + r * PITCH
            if job.input_kind == LOGITS:
                add_logits(state, row + INPUT, begin, vectors, True, zero)
            elif job.input_kind == COUNTS and state.kept:
                negative = add_counts(state, row + INPUT, begin, n, zero)
                if negative >= 0:
                    return NEGATIVE_COUNT, entry(tile, begin + negative, r)
            if job.formula == KL_ROWS and job.target_kind == LOGITS:
                add_logits(row_state(scratch, TILE + r), row + MIXED, begin, vectors, False, zero)
    for r in range(tile.rows):
        state = row_state(scratch, r)
        if job.input_kind == COUNTS and state.kept and state.mass == 0.0:
            return EMPTY_COUNTS, tile.row + r
        finish_softmax(state)
        finish_softmax(row_state(scratch, TILE + r))
    return -1, 0


@device_function
def take_logarithms(job: Any, tile: RowTile, n: int, scratch: int, zero: Any) -> None:
    """A tile's block to ln q, t and ln t."""
    vectors = vector_count(n, width(zero))
    for r in range(tile.rows):
        row = scratch + r * PITCH
        write_logarithms(job.input_kind, row + INPUT, row + SLOPES, row_state(scratch, r), vectors, zero)
        if job.formula == KL_ROWS:
            other = row_state(scratch, TILE + r)
            write_logarithms(job.target_kind, row + MIXED, row + TARGET_OUT, other, vectors, zero)
            write_probabilities(row, job.target_kind, other, vectors, zero)


@inlined
def add_losses(job: Any, tile: RowTile, begin: int, n: int, scratch: int, zero: Any) -> None:
    """A block's losses, into its rows' states."""
    vectors = vector_count(n, width(zero))
    weighted = job.upstream != 0
    for r in range(tile.rows):
        row = scratch + r * PITCH
        state = row_state(scratch, r)
        loss, share, mean = sum_losses(row, job.formula == KL_ROWS, weighted, vectors, zero)
        state.loss += loss
        state.upstream_mass += share
        state.upstream_loss += mean
        sum_others(row, state.first - begin, n, weighted, state, vectors, zero)


@device_function
def rounded_off(state: Any, kind: int, zero: Any) -> float:
    """What ln(1 + rest) of logits lost in the compute type: the same for every class, it adds up in a row's sum."""
    return state.log_rest - float(cast(state.log_rest, zero)) if kind == LOGITS else 0.0


@inlined
def finish_distribution(job: Any, row: int, state: Any, other: Any, zero: Any) -> None:
    """The row's loss, and the factor of its gradients."""
    if job.formula == KL_ROWS and job.upstream == 0:
        lost = rounded_off(state, job.input_kind, zero) - rounded_off(other, job.target_kind, zero)
        lost = annihilate(state.upstream_mass, lost)
        state.loss += lost
        state.upstream_loss += lost
    loss = annihilate(optional_number(job.row_weight, row, 0.0), state.loss)
    state.factor = gradient_factor(job, row)
    store_one(job.losses + 8 * row, loss if state.kept else 0.0)
    if job.finished:
        store_finished(job, row, state.mass, 0.0, state.factor)


@inlined
def write_losses(job: Any, tile: RowTile, scratch: int, zero: Any) -> None:
    """The second pass: losses of rows, and of single entries where they are wanted."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            read_distribution(job, tile, begin, n, scratch, zero)
        take_logarithms(job, tile, n, scratch, zero)
        add_losses(job, tile, begin, n, scratch, zero)
        if job.values:
            store_tile(job.values, scratch + SINGLE, job.values_dtype, tile, begin, n, zero, scratch + STAGED)
    for r in range(tile.rows):
        finish_distribution(job, tile.row + r, row_state(scratch, r), row_state(scratch, TILE + r), zero)


@inlined
def differentiate_block(job: Any, tile: RowTile, begin: int, n: int, scratch: int, zero: Any) -> None:
    """The gradients of a tile's block, to the answers."""
    kinds = LossKinds(job.input_kind, job.target_kind, job.formula == KL_ROWS)
    keep = 1.0 - job.label_smoothing
    weights = scratch + WEIGHTS if job.class_weight else 0
    stage = scratch + STAGED
    for r in range(tile.rows):
        row = scratch + r * PITCH
        state = row_state(scratch, r)
        if not state.kept:
            fill(row + SLOPES, 0, n, zero)
            continue
        write_slopes(row, kinds, job.upstream != 0, keep, weights, state, vector_count(n, width(zero)), zero)
        if job.input_kind == LOGITS or job.input_kind == COUNTS:
            write_exact_slope(row, state.first - begin, n, job.input_kind, state, zero)
    if job.input_gradient:
        store_tile(job.input_gradient, scratch + SLOPES, job.input_gradient_dtype, tile, begin, n, zero, stage)
    if job.target_gradient:
        store_tile(job.target_gradient, scratch + TARGET_OUT, job.target_gradient_dtype, tile, begin, n, zero, stage)


@inlined
def differentiate(job: Any, tile: RowTile, scratch: int, zero: Any) -> None:
    """The third pass: gradients."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            read_distribution(job, tile, begin, n, scratch, zero)
            take_logarithms(job, tile, n, scratch, zero)
        differentiate_block(job, tile, begin, n, scratch, zero)


@device_function
def distribution_tile(job: Any, tile: RowTile, scratch: int, zero: Any) -> tuple[int, int]:
    """Losses and gradients of a tile of rows; (fault, index), fault −1 where there is none."""
    for r in range(tile.rows):
        if not start_distribution(job, tile, r, scratch):
            return CLASS_OUT_OF_RANGE, tile.row + r
    fault, index = normalise(job, tile, scratch, zero)
    if fault >= 0:
        return fault, index
    write_losses(job, tile, scratch, zero)
    if job.input_gradient or job.target_gradient:
        differentiate(job, tile, scratch, zero)
    return -1, 0


@inlined
def distribution_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job; (fault, index)."""
    return for_each_tile(distribution_tile, job, begin, end, scratch, zero)


@njit
def distribution_rows(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """Losses against distributions of any kind: see `for_each_piece`."""
    for_each_piece(distribution_piece, jobs, pieces, counter, scratch, zero)

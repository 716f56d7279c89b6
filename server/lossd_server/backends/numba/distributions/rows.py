"""Rows against distributions of any kind: cross-entropy of log-probabilities, probabilities and counts, and KL
divergence where a kind is normalised over its row.

Three turns over a row: what normalises it, its losses, its gradients. A row of one block is read once.
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
    FINISHED,
    KL_ROWS,
    LOG_PROBABILITIES,
    LOGITS,
    NEGATIVE_COUNT,
)
from lossd_server.backends.numba.distributions.block_math import (
    add_losses,
    exact_slope,
    set_apart,
    take_logarithms,
    take_slopes,
    take_target,
)
from lossd_server.backends.numba.distributions.entropy import counts_sum
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, TILE, fill, steps_of
from lossd_server.backends.numba.layout.row_tiles import entry, load_tile, store_tile
from lossd_server.backends.numba.simd.memory import cast, load_one, next_piece, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.block_sums import first_equal, largest
from lossd_server.backends.numba.softmax.row_per_block import advance
from lossd_server.backends.numba.softmax.row_state import (
    INPUT,
    MIXED,
    SINGLE,
    SLOPES,
    STAGED,
    TARGET_OUT,
    UPSTREAM,
    WEIGHTS,
    annihilate,
    optional_number,
)
from lossd_server.backends.numba.softmax.target_mix import mix
from lossd_server.jobs.jit import device_function, inlined, njit


@inlined
def start_distribution(job: Any, layout: Any, row: int, state: Any, other: Any) -> bool:
    """Empties a row's states and looks its target up; False where the target is no class."""
    state[:] = 0.0
    other[:] = 0.0
    state[at.MAXIMUM] = other[at.MAXIMUM] = -math.inf
    state[at.KEPT] = 1.0
    state[at.CLASS] = -1.0
    if job.formula != CROSS_ENTROPY_KINDS_INDEX:
        return True
    y = load_one(job.target + 8 * row, np.int64(0))
    state[at.CLASS] = y
    if y == job.ignore_index:
        state[at.KEPT] = 0.0
        return True
    return 0 <= y < layout[1]


@device_function
def read_distribution(
    job: Any, layout: Any, where: Any, begin: int, n: int, states: Any, scratch: int, zero: Any
) -> None:
    """Lays a tile's block of the input, the target (or v) and the upstream gradient in scratch."""
    stage = scratch + STAGED
    lowest = cast(-math.inf, zero)
    pad = lowest if job.input_kind == LOGITS else zero
    load_tile(scratch + INPUT, job.input, job.input_dtype, layout, where, begin, n, pad, stage)
    if job.formula != KL_ROWS:
        mix(job, layout, where, begin, n, scratch, zero)
        for r in range(where[2]):
            y = int(states[r, at.CLASS]) - begin
            if 0 <= y < n:
                lies = scratch + MIXED + r * PITCH + y * width(zero)
                share = (1.0 - job.label_smoothing) * optional_number(job.class_weight, begin + y, zero)
                store_one(lies, cast(load_one(lies, zero) + share, zero))
        return
    pad = lowest if job.target_kind == LOGITS or job.target_kind == LOG_PROBABILITIES else zero
    load_tile(scratch + MIXED, job.target, job.target_dtype, layout, where, begin, n, pad, stage)
    if job.upstream:
        load_tile(scratch + UPSTREAM, job.upstream, job.upstream_dtype, layout, where, begin, n, zero, stage)


@inlined
def measure(job: Any, layout: Any, where: Any, begin: int, n: int, states: Any, scratch: int, zero: Any) -> int:
    """Takes a block into what normalises its rows; the index of the first negative count, or −1."""
    steps = steps_of(n, width(zero))
    for r in range(where[2]):
        state = states[r]
        row = scratch + INPUT + r * PITCH
        block = (row, steps, row, steps)
        if job.input_kind == LOGITS:
            advance(state, block, 0, begin, False, True, 0, (0, 0), zero)
        elif job.input_kind == COUNTS and state[at.KEPT]:
            mass, good = counts_sum(row, steps, zero)
            state[at.MASS] += mass
            top = largest(block, zero)
            if top > state[at.MAXIMUM]:
                state[at.MAXIMUM] = top
                state[at.FIRST] = begin + first_equal(block, top, zero)
            if not good:
                for c in range(n):
                    if not load_one(row + c * width(zero), zero) >= 0:
                        return entry(layout, where[0], begin + c, where[1] + r)
        if job.formula == KL_ROWS and job.target_kind == LOGITS:
            row = scratch + MIXED + r * PITCH
            advance(states[TILE + r], (row, steps, row, steps), 0, begin, False, False, 0, (0, 0), zero)
    return -1


@device_function
def normalise(state: Any) -> None:
    """REST and LOG_REST of a row of logits that has been measured."""
    rest = state[at.BELOW] + (state[at.TIES] - 1.0)
    if not abs(state[at.MAXIMUM]) < math.inf:
        rest = math.nan
    state[at.REST] = rest
    state[at.LOG_REST] = math.log1p(rest)
    state[at.GAPS] = 0.0  # `advance` carries it along; from here on it is Σ s·loss


@inlined
def lose(job: Any, where: Any, begin: int, n: int, states: Any, scratch: int, adding: bool, zero: Any) -> None:
    """Takes a block to logarithms, and where `adding` its losses into the rows' states."""
    steps = steps_of(n, width(zero))
    divergence = job.formula == KL_ROWS
    weighted = job.upstream != 0
    for r in range(where[2]):
        row = scratch + r * PITCH
        state = states[r]
        take_logarithms(row, job.input_kind, INPUT, SLOPES, state, steps, zero)
        if divergence:
            other = states[TILE + r]
            take_logarithms(row, job.target_kind, MIXED, TARGET_OUT, other, steps, zero)
            take_target(row, job.target_kind, other, steps, zero)
        if not adding:
            continue
        loss, share, mean = add_losses(row, divergence, weighted, steps, zero)
        state[at.WEIGHTED] += loss
        state[at.SHARE] += share
        state[at.GAPS] += mean
        set_apart(row, int(state[at.FIRST]) - begin, n, weighted, state, steps, zero)


@inlined
def write_distribution(
    job: Any, layout: Any, where: Any, begin: int, n: int, states: Any, scratch: int, zero: Any
) -> None:
    """The gradients of a tile's block."""
    size = width(zero)
    steps = steps_of(n, size)
    stage = scratch + STAGED
    sides = (job.input_kind, job.target_kind, job.formula == KL_ROWS)
    keep = 1.0 - job.label_smoothing
    weights = scratch + WEIGHTS if job.class_weight else 0
    for r in range(where[2]):
        row = scratch + r * PITCH
        state = states[r]
        if state[at.KEPT] == 0.0:
            fill(row + SLOPES, 0, n, zero)
            continue
        take_slopes(row, sides, job.upstream != 0, keep, weights, state, steps, zero)
        if job.input_kind == LOGITS or job.input_kind == COUNTS:
            exact_slope(row, int(state[at.FIRST]) - begin, n, job.input_kind, state, zero)
    if job.input_gradient:
        store_tile(job.input_gradient, scratch + SLOPES, job.input_gradient_dtype, layout, where, begin, n, zero, stage)
    if job.target_gradient:
        dtype = job.target_gradient_dtype
        store_tile(job.target_gradient, scratch + TARGET_OUT, dtype, layout, where, begin, n, zero, stage)


@device_function
def rounded_off(state: Any, kind: int, zero: Any) -> float:
    """What ln(1 + rest) of logits lost in the compute type: the same for every class, it adds up in a row's sum."""
    return state[at.LOG_REST] - float(cast(state[at.LOG_REST], zero)) if kind == LOGITS else 0.0


@inlined
def finish_distribution(job: Any, row: int, state: Any, other: Any, zero: Any) -> None:
    """The row's loss, and the factor of its gradients."""
    if job.formula == KL_ROWS and job.upstream == 0:
        lost = rounded_off(state, job.input_kind, zero) - rounded_off(other, job.target_kind, zero)
        lost = annihilate(state[at.SHARE], lost)
        state[at.WEIGHTED] += lost
        state[at.GAPS] += lost
    weight = optional_number(job.row_weight, row, 0.0)
    loss = annihilate(weight, state[at.WEIGHTED])
    state[at.FACTOR] = job.scale * weight * optional_number(job.row_upstream, row, 0.0)
    store_one(job.losses + 8 * row, loss if state[at.KEPT] else 0.0)
    if job.finished:
        kept = job.finished + 8 * FINISHED * row
        store_one(kept, state[at.MASS])
        store_one(kept + 16, state[at.FACTOR])


@inlined
def distribution_tile(job: Any, layout: Any, where: Any, scratch: int, states: Any, zero: Any) -> tuple[int, int]:
    """Losses and gradients of a tile of rows; (fault, index), fault −1 where there is none."""
    outer, inner, rows = where
    classes = layout[1]
    first_row = outer * layout[2] + inner
    gradient = job.input_gradient != 0 or job.target_gradient != 0
    for r in range(rows):
        if not start_distribution(job, layout, first_row + r, states[r], states[TILE + r]):
            return CLASS_OUT_OF_RANGE, first_row + r
    for turn in range(3 if gradient else 2):
        for begin in range(0, classes, BLOCK):
            n = min(BLOCK, classes - begin)
            if turn == 0 or classes > BLOCK:
                read_distribution(job, layout, where, begin, n, states, scratch, zero)
            if turn == 0:
                negative = measure(job, layout, where, begin, n, states, scratch, zero)
                if negative >= 0:
                    return NEGATIVE_COUNT, negative
            elif turn == 1 or classes > BLOCK:
                lose(job, where, begin, n, states, scratch, turn == 1, zero)
                if turn == 1 and job.values:
                    at_values = scratch + SINGLE
                    store_tile(job.values, at_values, job.values_dtype, layout, where, begin, n, zero, scratch + STAGED)
            if turn == 2:
                write_distribution(job, layout, where, begin, n, states, scratch, zero)
        for r in range(rows):
            if turn == 0:
                if job.input_kind == COUNTS and states[r, at.KEPT] and states[r, at.MASS] == 0.0:
                    return EMPTY_COUNTS, first_row + r
                normalise(states[r])
                normalise(states[TILE + r])
            elif turn == 1:
                finish_distribution(job, first_row + r, states[r], states[TILE + r], zero)
    return -1, 0


@njit
def kinds_rows(jobs: Any, pieces: Any, counter: int, scratch: int, states: Any, zero: Any) -> None:
    """Takes pieces until none is left: as `softmax_rows`."""
    while True:
        i = next_piece(counter)
        if i >= pieces.shape[0]:
            return
        piece = pieces[i]
        job = jobs[piece.job]
        layout = (job.outer, job.classes, job.inner)
        row = piece.begin
        while row < piece.end:
            inner = row % layout[2]
            rows = min(TILE, layout[2] - inner, piece.end - row) if layout[2] > 1 else 1
            fault, index = distribution_tile(job, layout, (row // layout[2], inner, rows), scratch, states, zero)
            if fault >= 0:
                piece.fault = fault
                piece.fault_index = index
                break
            row += rows

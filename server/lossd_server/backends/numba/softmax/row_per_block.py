"""The softmax family: cross-entropy and the entropy of logits, row by row.

A row's sums are kept relative to its greatest logit so far and rescaled when a greater one comes, so a loss takes one
read. `rest` leaves the maximum out: −log p = (m − x) + log1p(rest) has two terms ≥ 0 and nothing cancels. What is
computed for a row depends on (formula, C, type) alone, wherever its entries lie.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import (
    CLASS_OUT_OF_RANGE,
    CROSS_ENTROPY_DISTRIBUTION,
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
    LOG_SOFTMAX,
    SOFTMAX,
)
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, TILE, fill, load_block, steps_of
from lossd_server.backends.numba.layout.row_tiles import entry, load_tile
from lossd_server.backends.numba.simd.memory import (
    FLOAT32,
    FLOAT64,
    cast,
    load_one,
    next_piece,
    size_of,
    store_one,
    zero_bytes,
)
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.activations import activate
from lossd_server.backends.numba.softmax.auxiliary_outputs import write_outputs
from lossd_server.backends.numba.softmax.block_sums import (
    entropy_sum,
    exp_sums,
    first_equal,
    gap_sum,
    largest,
    plain_sum,
)
from lossd_server.backends.numba.softmax.gradients import write_gradients
from lossd_server.backends.numba.softmax.row_per_lane import NARROW, narrow_rows
from lossd_server.backends.numba.softmax.row_state import (
    EXPONENTIALS,
    INPUT,
    MIXED,
    SINGLE,
    SLOPES,
    STAGED,
    annihilate,
    optional_number,
)
from lossd_server.backends.numba.softmax.softcap import cap
from lossd_server.backends.numba.softmax.target_mix import mix
from lossd_server.jobs.jit import device_function, inlined, njit

KEPT_BYTES = 1 << 18  # exponentials of a long row that the second cache holds: cheaper than to compute them again
LONG = 2048  # classes from which rows are worth asking for ahead of time: shorter ones the processor sees coming


@device_function
def start_row(job: Any, layout: Any, where: Any, r: int, state: Any, scratch: int, zero: Any) -> bool:
    """Empties a row's state and looks its target up; False where the target is no class."""
    outer, inner, _ = where
    state[:] = 0.0
    state[at.MAXIMUM] = -math.inf
    state[at.KEPT] = 1.0
    state[at.REST_MASS] = math.nan
    if job.formula != CROSS_ENTROPY_INDEX:
        return True
    row = outer * layout[2] + inner + r
    y = load_one(job.target + 8 * row, np.int64(0))
    if y == job.ignore_index:
        state[at.KEPT] = 0.0
        return True
    if y < 0 or y >= layout[1]:
        state[at.KEPT] = 0.0
        return False
    lies = job.input + entry(layout, outer, y, inner + r) * size_of(job.input_dtype)
    if job.softcap != 0.0 or job.input_dtype != (FLOAT32 if width(zero) == 4 else FLOAT64):
        load_block(scratch + EXPONENTIALS, lies, 1, job.input_dtype, zero, scratch + STAGED)
        lies = scratch + EXPONENTIALS
    state[at.CLASS] = y
    if job.softcap != 0.0:
        cap(scratch + EXPONENTIALS, scratch + SLOPES, 1, job.softcap, zero)
    state[at.PICKED] = load_one(lies, zero)
    state[at.SHARE] = (1.0 - job.label_smoothing) * optional_number(job.class_weight, y, zero)
    return True


@device_function
def advance(
    state: Any, block: Any, weights: int, begin: int, gaps: bool, first: bool, kept: int, ahead: Any, zero: Any
) -> None:
    """Takes a block, classes `begin` …, into a row's state. `weights`: where v lies, or 0; gaps, first: whether those
    are wanted; ahead: where the next block lies, see `exp_sums`.
    """
    top = largest(block, zero)
    if top > state[at.MAXIMUM]:
        new = float(top)
        before = state[at.BELOW] + state[at.TIES]
        shift = new - state[at.REF]
        if before == 0.0:
            state[at.BELOW] = state[at.GAPS] = 0.0
        else:
            factor = math.exp(-shift)
            state[at.GAPS] = factor * (state[at.GAPS] + shift * before)
            state[at.BELOW] = factor * before
        state[at.TIES] = 0.0
        state[at.WEIGHTED] += annihilate(state[at.MASS], shift)
        state[at.MAXIMUM] = state[at.REF] = new
        if first:
            state[at.FIRST] = begin + first_equal(block, top, zero)
    ref = cast(state[at.REF], zero)
    below, ties = exp_sums(block, ref, kept, ahead[0], ahead[1], zero)
    state[at.BELOW] += below
    state[at.TIES] += ties
    if gaps:
        state[at.GAPS] += entropy_sum(block, ref, zero)
    if weights:
        state[at.WEIGHTED] += gap_sum(block, weights, ref, zero)
        state[at.MASS] += plain_sum(weights, block[3], zero)


@device_function
def finish_row(job: Any, row: int, state: Any) -> float:
    """The row's loss, from its state; what the gradient needs is left there."""
    rest = state[at.BELOW] + (state[at.TIES] - 1.0)
    if not abs(state[at.MAXIMUM]) < math.inf:
        rest = math.nan
    log_rest = math.log1p(rest)
    state[at.REST] = rest
    state[at.LOG_REST] = log_rest
    weight = optional_number(job.row_weight, row, 0.0)
    state[at.FACTOR] = job.scale * weight * optional_number(job.row_upstream, row, 0.0)
    if job.formula == ENTROPY_LOGITS:
        return annihilate(weight, log_rest + state[at.GAPS] / (1.0 + rest))
    loss = annihilate(state[at.MASS], log_rest) + state[at.WEIGHTED]
    if job.formula == CROSS_ENTROPY_INDEX:
        loss += annihilate(state[at.SHARE], (state[at.MAXIMUM] - state[at.PICKED]) + log_rest)
    if job.z_loss != 0.0:
        lse = state[at.MAXIMUM] + log_rest
        state[at.MASS_OF_Z] = 2.0 * job.z_loss * lse
        loss += job.z_loss * lse * lse
    return annihilate(weight, loss)


@device_function
def read_block(
    job: Any, layout: Any, where: Any, begin: int, n: int, scratch: int, zero: Any
) -> tuple[int, int, int, int]:
    """Makes classes begin … begin + n − 1 of a tile readable; the block of its first row."""
    size = width(zero)
    lowest = cast(-math.inf, zero)
    steps = steps_of(n, size)
    to = scratch + INPUT
    capped = job.softcap != 0.0
    if capped or layout[2] > 1 or job.input_dtype != (FLOAT32 if size == 4 else FLOAT64):
        load_tile(to, job.input, job.input_dtype, layout, where, begin, n, lowest, scratch + STAGED)
        if capped:
            for r in range(where[2]):
                cap(to + r * PITCH, scratch + SLOPES + r * PITCH, steps, job.softcap, zero)
                fill(to + r * PITCH, n, steps * (BYTES // size), lowest)
        return to, steps, to, steps
    body = job.input + entry(layout, where[0], begin, 0) * size
    full = n * size // BYTES
    done = full * (BYTES // size)
    if done < n:
        load_block(to, body + full * BYTES, n - done, job.input_dtype, lowest, scratch + STAGED)
    return body, full, to, steps


@inlined
def rest_mass(job: Any, layout: Any, where: Any, scratch: int, states: Any, zero: Any) -> None:
    """Σ v without the first maximum, summed apart: in float64 the difference of two sums is not exact enough."""
    classes = layout[1]
    states[:, at.REST_MASS] = 0.0
    for begin in range(0, classes, BLOCK):
        n = min(BLOCK, classes - begin)
        if classes > BLOCK:
            mix(job, layout, where, begin, n, scratch, zero)
        for r in range(where[2]):
            v = scratch + MIXED + r * PITCH
            lies = v + (int(states[r, at.FIRST]) - begin) * 8
            inside = v <= lies < v + n * 8
            own = load_one(lies, zero) if inside else zero
            if inside:
                store_one(lies, zero)
            states[r, at.REST_MASS] += plain_sum(v, steps_of(n, 8), zero)
            if inside:
                store_one(lies, own)


@inlined
def softmax_tile(job: Any, layout: Any, where: Any, scratch: int, states: Any, zero: Any) -> int:
    """Losses and gradients of a tile of rows; the first row whose target is no class, or −1."""
    outer, inner, rows = where
    classes = layout[1]
    first_row = outer * layout[2] + inner
    weighted = job.formula == CROSS_ENTROPY_DISTRIBUTION or (
        job.formula == CROSS_ENTROPY_INDEX and job.label_smoothing > 0.0
    )
    activation = job.formula == SOFTMAX or job.formula == LOG_SOFTMAX
    gaps = job.formula == ENTROPY_LOGITS or job.entropy != 0
    first = weighted or activation or job.argmax != 0 or job.correct != 0
    keep = 0
    if layout[2] == 1 and job.input_gradient:
        plain = job.formula == CROSS_ENTROPY_INDEX and not weighted and job.softcap == 0.0
        if classes <= BLOCK:
            keep = scratch + EXPONENTIALS
        elif plain and width(zero) == 4 and classes * 4 <= KEPT_BYTES:  # in float64 the difference of refs would round
            keep = scratch + MIXED
    for r in range(rows):
        if not start_row(job, layout, where, r, states[r], scratch, zero):
            return first_row + r
    if layout[2] == 1 and states[0, at.KEPT] == 0.0 and job.plain:
        classes = 0  # an ignored row is not read, but for its outputs
    block = (0, 0, 0, 0)
    for begin in range(0, classes, BLOCK):
        n = min(BLOCK, classes - begin)
        block = read_block(job, layout, where, begin, n, scratch, zero)
        if weighted:
            mix(job, layout, where, begin, n, scratch, zero)
        ahead = (0, 0)
        if layout[2] == 1 and classes >= LONG:
            size = size_of(job.input_dtype)
            ahead = (job.input + entry(layout, outer, begin + n, 0) * size, BYTES // width(zero) * size)
        for r in range(rows):
            shifted = (block[0] + r * PITCH, block[1], block[2], block[3])
            v = scratch + MIXED + r * PITCH if weighted else 0
            advance(states[r], shifted, v, begin, gaps, first, keep + begin * width(zero) if keep else 0, ahead, zero)
        if keep and classes > BLOCK:
            store_one(scratch + SINGLE + begin // BLOCK * 8, states[0, at.REF])
    for r in range(rows):
        loss = finish_row(job, first_row + r, states[r])
        if not job.plain:
            write_outputs(job, first_row + r, states[r])
        if job.losses:
            store_one(job.losses + 8 * (first_row + r), loss if states[r, at.KEPT] else 0.0)
    if activation:
        activate(job, layout, where, block, scratch, states, zero)
        return -1
    if not (job.input_gradient or job.target_gradient):
        return -1
    if classes == 0:
        itemsize = size_of(job.input_gradient_dtype)
        zero_bytes(job.input_gradient + entry(layout, outer, 0, 0) * itemsize, layout[1] * itemsize)
        return -1
    if weighted and width(zero) == 8:
        rest_mass(job, layout, where, scratch, states, zero)
    for begin in range(0, classes, BLOCK):
        n = min(BLOCK, classes - begin)
        kept, fade = keep, 1.0
        if keep and classes > BLOCK:
            kept = keep + begin * width(zero)
            fade = math.exp(load_one(scratch + SINGLE + begin // BLOCK * 8, 0.0) - states[0, at.REF])
            block = (0, 0, 0, steps_of(n, width(zero)))
        elif classes > BLOCK:
            block = read_block(job, layout, where, begin, n, scratch, zero)
            if weighted:
                mix(job, layout, where, begin, n, scratch, zero)
        write_gradients(job, layout, where, begin, n, block, kept, fade, weighted, states, scratch, zero)
    return -1


@njit
def softmax_rows(jobs: Any, pieces: Any, counter: int, scratch: int, states: Any, zero: Any) -> None:
    """Takes pieces of softmax jobs until none is left. `zero` tells the compute type; scratch and states are the
    thread's own.
    """
    while True:
        i = next_piece(counter)
        if i >= pieces.shape[0]:
            return
        piece = pieces[i]
        job = jobs[piece.job]
        layout = (job.outer, job.classes, job.inner)
        row = piece.begin
        if layout[1] <= NARROW and job.formula != SOFTMAX and job.formula != LOG_SOFTMAX:
            wrong = narrow_rows(job, layout, piece.begin, piece.end, scratch, zero)
            if wrong >= 0:
                piece.fault = CLASS_OUT_OF_RANGE
                piece.fault_index = wrong
            continue
        while row < piece.end:
            inner = row % layout[2]
            rows = min(TILE, layout[2] - inner, piece.end - row) if layout[2] > 1 else 1
            wrong = softmax_tile(job, layout, (row // layout[2], inner, rows), scratch, states, zero)
            if wrong >= 0:
                piece.fault = CLASS_OUT_OF_RANGE
                piece.fault_index = wrong
                break
            row += rows

"""Rows that need no softmax: the entropy of probabilities and of counts, −Σ p ln p."""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import EMPTY_COUNTS, ENTROPY_COUNTS, NEGATIVE_COUNT
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, TILE, steps_of
from lossd_server.backends.numba.layout.row_tiles import entry, load_tile, store_tile
from lossd_server.backends.numba.simd.math import log, log_ratio
from lossd_server.backends.numba.simd.memory import cast, load, load_one, next_piece, store, store_one
from lossd_server.backends.numba.simd.operations import any_of, splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.block_sums import GROUP, times
from lossd_server.backends.numba.softmax.row_state import INPUT, STAGED, annihilate, optional_number
from lossd_server.jobs.jit import device_function, inlined, njit


@device_function
def counts_sum(row: int, steps: int, zero: Any) -> tuple[float, bool]:
    """(Σ k, whether all are ≥ 0)."""
    wide = widen_sum(splat(zero))
    good = True
    for j in range(steps):
        k = load(row + j * BYTES, zero)
        wide = wide + widen_sum(k)
        good = good and not any_of((k < 0.0) | (k != k))
    return total(wide), good


@device_function
def logarithm(x: Any, q: Any, norms: Any, lost: Any, counts: bool) -> Any:
    """ln q of q = x / (norms + lost)."""
    value = log(q)
    return log_ratio(x, norms, lost, value) if counts else value


@device_function
def entropy_of(row: int, steps: int, mass: float, counts: bool, zero: Any) -> float:
    """−Σ q ln q of q = entry / mass."""
    norm = cast(mass, zero)
    norms = splat(norm)
    lost = splat(cast(mass - float(norm), zero))
    wide = widen_sum(splat(zero))
    for group in range(0, steps, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, steps)):
            x = load(row + j * BYTES, zero)
            q = x / norms
            narrow = narrow - times(q, logarithm(x, q, norms, lost, counts))
        wide = wide + widen_sum(narrow)
    return total(wide)


@device_function
def entropy_slope(row: int, steps: int, mass: float, counts: bool, factor: Any, added: Any, zero: Any) -> None:
    """Overwrites entries with factor·(ln(entry / mass) + added)."""
    norm = cast(mass, zero)
    norms = splat(norm)
    lost = splat(cast(mass - float(norm), zero))
    factors = splat(factor)
    for j in range(steps):
        x = load(row + j * BYTES, zero)
        store(row + j * BYTES, (logarithm(x, x / norms, norms, lost, counts) + added) * factors)


@inlined
def entropy_tile(job: Any, layout: Any, where: Any, scratch: int, states: Any, zero: Any) -> tuple[int, int]:
    """Losses and gradients of a tile of rows; (fault, index), fault −1 where there is none."""
    outer, inner, rows = where
    classes = layout[1]
    counts = job.formula == ENTROPY_COUNTS
    tile = scratch + INPUT
    stage = scratch + STAGED
    first_row = outer * layout[2] + inner
    states[:, at.BELOW] = 0.0
    states[:, at.MASS] = 0.0 if counts else 1.0
    if counts:
        for begin in range(0, classes, BLOCK):
            n = min(BLOCK, classes - begin)
            load_tile(tile, job.input, job.input_dtype, layout, where, begin, n, zero, stage)
            for r in range(rows):
                mass, good = counts_sum(tile + r * PITCH, steps_of(n, width(zero)), zero)
                states[r, at.MASS] += mass
                if not good:
                    for c in range(n):
                        k = load_one(tile + r * PITCH + c * width(zero), zero)
                        if not k >= 0:
                            return NEGATIVE_COUNT, entry(layout, outer, begin + c, inner + r)
        for r in range(rows):
            if states[r, at.MASS] == 0.0:
                return EMPTY_COUNTS, first_row + r
    for begin in range(0, classes, BLOCK):
        n = min(BLOCK, classes - begin)
        if not counts or classes > BLOCK:
            load_tile(tile, job.input, job.input_dtype, layout, where, begin, n, zero, stage)
        for r in range(rows):
            mass = states[r, at.MASS]
            states[r, at.BELOW] += entropy_of(tile + r * PITCH, steps_of(n, width(zero)), mass, counts, zero)
    for r in range(rows):
        weight = optional_number(job.row_weight, first_row + r, 0.0)
        store_one(job.losses + 8 * (first_row + r), annihilate(weight, states[r, at.BELOW]))
        factor = job.scale * weight * optional_number(job.row_upstream, first_row + r, 0.0)
        states[r, at.FACTOR] = -factor / states[r, at.MASS]
    if not job.input_gradient:
        return -1, 0
    for begin in range(0, classes, BLOCK):
        n = min(BLOCK, classes - begin)
        if classes > BLOCK:
            load_tile(tile, job.input, job.input_dtype, layout, where, begin, n, zero, stage)
        for r in range(rows):
            # ln q + H as ln(q·e^H): near the mean surprise the two logarithms would cancel.
            added = cast(0.0 if counts else 1.0, zero)
            mass = states[r, at.MASS] * (math.exp(-states[r, at.BELOW]) if counts else 1.0)
            factor = cast(states[r, at.FACTOR], zero)
            entropy_slope(tile + r * PITCH, steps_of(n, width(zero)), mass, counts, factor, added, zero)
        store_tile(job.input_gradient, tile, job.input_gradient_dtype, layout, where, begin, n, zero, stage)
    return -1, 0


@njit
def sum_rows(jobs: Any, pieces: Any, counter: int, scratch: int, states: Any, zero: Any) -> None:
    """Takes pieces of row-sum jobs until none is left: as `softmax_rows`."""
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
            fault, index = entropy_tile(job, layout, (row // layout[2], inner, rows), scratch, states, zero)
            if fault >= 0:
                piece.fault = fault
                piece.fault_index = index
                break
            row += rows

"""Distribution-entropy kernel: −Σ p ln p of probabilities and of counts, rows that need no softmax."""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import EMPTY_COUNTS, ENTROPY_COUNTS, NEGATIVE_COUNT
from lossd_server.backends.numba.layout.blocks import BLOCK, GROUP, PITCH, vector_count
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.row_tiles import RowTile, entry, for_each_tile, load_tile, store_tile
from lossd_server.backends.numba.layout.scratch import INPUT, STAGED
from lossd_server.backends.numba.layout.weights import gradient_factor, optional_number
from lossd_server.backends.numba.simd.logarithm import log
from lossd_server.backends.numba.simd.math import log_ratio, product, times
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import any_of, splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.row_state import empty_state, row_state
from lossd_server.jobs.jit import device_function, inlined, njit
from lossd_server.jobs.reduction import annihilate


@device_function
def counts_sum(row: int, vectors: int, zero: Any) -> tuple[float, bool]:
    """(Σ k, whether all are ≥ 0)."""
    wide = widen_sum(splat(zero))
    good = True
    for j in range(vectors):
        k = load(row + j * BYTES, zero)
        wide = wide + widen_sum(k)
        good = good and not any_of((k < 0.0) | (k != k))
    return total(wide), good


@device_function
def first_negative(row: int, n: int, zero: Any) -> int:
    """Index of the first of n counts that is negative or NaN, or −1."""
    for c in range(n):
        if not load_one(row + c * width(zero), zero) >= 0:
            return c
    return -1


@device_function
def logarithm(x: Any, q: Any, norms: Any, lost: Any, counts: bool) -> Any:
    """ln q of q = x / (norms + lost)."""
    value = log(q)
    return log_ratio(x, norms, lost, value) if counts else value


@device_function
def block_entropy(row: int, vectors: int, mass: float, counts: bool, zero: Any) -> float:
    """−Σ q ln q of q = entry / mass."""
    norm = cast(mass, zero)
    norms = splat(norm)
    lost = splat(cast(mass - float(norm), zero))
    wide = widen_sum(splat(zero))
    for group in range(0, vectors, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, vectors)):
            x = load(row + j * BYTES, zero)
            q = x / norms
            narrow = narrow - times(q, logarithm(x, q, norms, lost, counts))
        wide = wide + widen_sum(narrow)
    return total(wide)


@device_function
def block_slope(row: int, vectors: int, mass: float, counts: bool, factor: Any, added: Any, zero: Any) -> None:
    """Overwrites entries with factor·(ln(entry / mass) + added)."""
    norm = cast(mass, zero)
    norms = splat(norm)
    lost = splat(cast(mass - float(norm), zero))
    factors = splat(factor)
    for j in range(vectors):
        x = load(row + j * BYTES, zero)
        store(row + j * BYTES, product(logarithm(x, x / norms, norms, lost, counts) + added, factors))


@inlined
def sum_counts(job: Any, tile: RowTile, scratch: int, zero: Any) -> tuple[int, int]:
    """The mass of a tile's rows of counts; (fault, index): a negative count, an empty row, or −1."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        load_tile(scratch + INPUT, job.input, job.input_dtype, tile, begin, n, zero, scratch + STAGED)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            row = scratch + INPUT + r * PITCH
            mass, good = counts_sum(row, vector_count(n, width(zero)), zero)
            state.mass += mass
            if not good:
                return NEGATIVE_COUNT, entry(tile, begin + first_negative(row, n, zero), r)
    for r in range(tile.rows):
        if row_state(scratch, r).mass == 0.0:
            return EMPTY_COUNTS, tile.row + r
    return -1, 0


@inlined
def sum_entropies(job: Any, tile: RowTile, counts: bool, scratch: int, zero: Any) -> None:
    """The entropies of a tile's rows. Counts of one block lie in scratch already."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if not counts or tile.classes > BLOCK:
            load_tile(scratch + INPUT, job.input, job.input_dtype, tile, begin, n, zero, scratch + STAGED)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            row = scratch + INPUT + r * PITCH
            vectors = vector_count(n, width(zero))
            state.loss += block_entropy(row, vectors, state.mass, counts, zero)


@inlined
def write_entropies(job: Any, tile: RowTile, scratch: int) -> None:
    """The tile's losses, and the factor of its gradients."""
    for r in range(tile.rows):
        state = row_state(scratch, r)
        row = tile.row + r
        weight = optional_number(job.row_weight, row, 0.0)
        store_one(job.losses + 8 * row, annihilate(weight, state.loss))
        state.factor = -gradient_factor(job, row) / state.mass


@inlined
def differentiate_entropies(job: Any, tile: RowTile, counts: bool, scratch: int, zero: Any) -> None:
    """The tile's gradients: s·(ln p + 1) of probabilities, s·(ln q + H) of counts."""
    stage = scratch + STAGED
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            load_tile(scratch + INPUT, job.input, job.input_dtype, tile, begin, n, zero, stage)
        for r in range(tile.rows):
            state = row_state(scratch, r)
            # ln q + H as ln(q·e^H): near the mean surprise the two logarithms would cancel.
            added = cast(0.0 if counts else 1.0, zero)
            mass = state.mass * (math.exp(-state.loss) if counts else 1.0)
            factor = cast(state.factor, zero)
            row = scratch + INPUT + r * PITCH
            block_slope(row, vector_count(n, width(zero)), mass, counts, factor, added, zero)
        store_tile(job.input_gradient, scratch + INPUT, job.input_gradient_dtype, tile, begin, n, zero, stage)


@device_function
def entropy_tile(job: Any, tile: RowTile, scratch: int, zero: Any) -> tuple[int, int]:
    """Losses and gradients of a tile of rows; (fault, index), fault −1 where there is none."""
    counts = job.formula == ENTROPY_COUNTS
    for r in range(tile.rows):
        empty_state(scratch, r).mass = 0.0 if counts else 1.0
    if counts:
        fault, index = sum_counts(job, tile, scratch, zero)
        if fault >= 0:
            return fault, index
    sum_entropies(job, tile, counts, scratch, zero)
    write_entropies(job, tile, scratch)
    if job.input_gradient:
        differentiate_entropies(job, tile, counts, scratch, zero)
    return -1, 0


@inlined
def entropy_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job; (fault, index)."""
    return for_each_tile(entropy_tile, job, begin, end, scratch, zero)


@njit
def entropy_rows(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """The entropy of distributions: see `for_each_piece`."""
    for_each_piece(entropy_piece, jobs, pieces, counter, scratch, zero)

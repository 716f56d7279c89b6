"""Softmax activations: softmax and log-softmax of rows, and their gradients, from a row's finished state.

With g upstream: softmax dx = p·(g − Σ g p); log-softmax dx = g − p·Σ g. At the greatest logit a both are differences
of near equals, so there the other classes are summed apart: p·(g_a·rest/d − Σ_{k≠a} g p), and
g_a·rest/d − p·Σ_{k≠a} g.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import SOFTMAX
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, RowBlock, row_of, vector_address
from lossd_server.backends.numba.layout.row_tiles import RowTile, load_tile, store_tile
from lossd_server.backends.numba.layout.scratch import MIXED, STAGED, TARGET_OUT, UPSTREAM
from lossd_server.backends.numba.simd.exponential import exp_scale, scaled_exp
from lossd_server.backends.numba.simd.math import product, times
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.logits import read_block
from lossd_server.backends.numba.softmax.row_state import row_state
from lossd_server.jobs.jit import device_function, inlined
from lossd_server.jobs.reduction import annihilate


@device_function
def sum_upstream(state: Any, block: RowBlock, g: int, begin: int, n: int, softmax: bool, zero: Any) -> None:
    """Adds a block to `others`, Σ g p (or Σ g) without the first maximum, and puts that one's g in `own`."""
    at = g + (state.first - begin) * width(zero)
    inside = g <= at < g + n * width(zero)
    if inside:
        own = load_one(at, zero)
        state.own = own
        store_one(at, zero)
    by = exp_scale(splat(cast(state.ref, zero)))
    inverse = splat(cast(1.0 / ((1.0 + state.rest) * state.unit), zero))
    wide = widen_sum(splat(zero))
    for j in range(block.vectors):
        term = load(g + j * BYTES, zero)
        if softmax:
            term = times(scaled_exp(load(vector_address(block, j), zero), by) * inverse, term)
        wide = wide + widen_sum(term)
    state.others += total(wide)
    if inside:
        store_one(at, own)


@device_function
def write_row(
    state: Any, block: RowBlock, values: int, g: int, out: int, factor: float, softmax: bool, gradient: bool, zero: Any
) -> None:
    """A block's values, and where wanted its gradient; g: where the upstream gradient lies, or 0 for ones."""
    d = 1.0 + state.rest
    refs = splat(cast(state.ref, zero))
    by = exp_scale(refs)
    inverse = splat(cast(1.0 / (d * state.unit), zero))
    log_rest = splat(cast(state.log_rest, zero))
    total_upstream = state.others + (state.own / d if softmax else state.own)
    if softmax and not g:
        total_upstream = 1.0
    sums = splat(cast(total_upstream, zero))
    factors = splat(cast(factor, zero))
    ones = splat(cast(1.0, zero))
    for j in range(block.vectors):
        x = load(vector_address(block, j), zero)
        p = scaled_exp(x, by) * inverse
        if gradient:
            upstream = load(g + j * BYTES, zero) if g else ones
            slope = times(p, upstream - sums) if softmax else upstream - times(p, sums)
            store(out + j * BYTES, product(factors, slope))
        store(values + j * BYTES, p if softmax else 0.0 - ((refs - x) + log_rest))


@device_function
def exact_entry(state: Any, out: int, begin: int, n: int, factor: float, softmax: bool, zero: Any) -> None:
    """The gradient at the first maximum."""
    first = state.first - begin
    d = 1.0 + state.rest
    own = annihilate(state.own, state.rest / d)
    slope = (own - state.others) / d if softmax else own - state.others / d
    if 0 <= first < n:
        store_one(out + first * width(zero), cast(annihilate(factor, slope), zero))


@inlined
def sum_upstream_gradient(job: Any, tile: RowTile, block: RowBlock, scratch: int, zero: Any) -> None:
    """`own` and `others` of a tile's rows, from its upstream gradient."""
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            block = read_block(job, tile, begin, n, scratch, zero)
        load_tile(scratch + UPSTREAM, job.upstream, job.upstream_dtype, tile, begin, n, zero, scratch + STAGED)
        for r in range(tile.rows):
            g = scratch + UPSTREAM + r * PITCH
            sum_upstream(row_state(scratch, r), row_of(block, r), g, begin, n, job.formula == SOFTMAX, zero)


@inlined
def write_activations(job: Any, tile: RowTile, block: RowBlock, upstream: bool, scratch: int, zero: Any) -> None:
    """The values of a tile of rows, and where wanted its gradient."""
    stage = scratch + STAGED
    softmax = job.formula == SOFTMAX
    gradient = job.input_gradient != 0
    for begin in range(0, tile.classes, BLOCK):
        n = min(BLOCK, tile.classes - begin)
        if tile.classes > BLOCK:
            block = read_block(job, tile, begin, n, scratch, zero)
            if upstream:
                load_tile(scratch + UPSTREAM, job.upstream, job.upstream_dtype, tile, begin, n, zero, stage)
        for r in range(tile.rows):
            values = scratch + MIXED + r * PITCH
            g = scratch + UPSTREAM + r * PITCH if upstream else 0
            out = scratch + TARGET_OUT + r * PITCH
            state = row_state(scratch, r)
            write_row(state, row_of(block, r), values, g, out, job.scale, softmax, gradient, zero)
            if gradient:
                exact_entry(state, out, begin, n, job.scale, softmax, zero)
        store_tile(job.values, scratch + MIXED, job.values_dtype, tile, begin, n, zero, stage)
        if gradient:
            dtype = job.input_gradient_dtype
            store_tile(job.input_gradient, scratch + TARGET_OUT, dtype, tile, begin, n, zero, stage)


@inlined
def activate(job: Any, tile: RowTile, block: RowBlock, scratch: int, zero: Any) -> None:
    """The values of a tile of rows, and its gradient. block: of its one block of classes, if that is all."""
    upstream = job.input_gradient != 0 and job.upstream != 0
    for r in range(tile.rows):
        state = row_state(scratch, r)
        d = 1.0 + state.rest
        others = state.rest / d if job.formula == SOFTMAX else tile.classes - 1.0
        state.own = 0.0 if upstream else 1.0
        state.others = 0.0 if upstream else others
    if upstream:
        sum_upstream_gradient(job, tile, block, scratch, zero)
    write_activations(job, tile, block, upstream, scratch, zero)

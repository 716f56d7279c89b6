"""softmax and log-softmax of rows, and their gradients, from a row's finished state.

With g upstream: softmax dx = p·(g − Σ g p); log-softmax dx = g − p·Σ g. At the greatest logit a both are differences
of near equals, so there the other classes are summed apart: p·(g_a·rest/d − Σ_{k≠a} g p), and
g_a·rest/d − p·Σ_{k≠a} g.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import SOFTMAX
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, steps_of
from lossd_server.backends.numba.layout.row_tiles import load_tile, store_tile
from lossd_server.backends.numba.simd.math import exp_gap
from lossd_server.backends.numba.simd.memory import cast, load, load_one, store, store_one
from lossd_server.backends.numba.simd.operations import splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.block_sums import times, vector_address
from lossd_server.backends.numba.softmax.row_state import INPUT, MIXED, STAGED, TARGET_OUT, UPSTREAM
from lossd_server.jobs.jit import device_function, inlined


@device_function
def sum_upstream(state: Any, block: Any, g: int, begin: int, n: int, softmax: bool, zero: Any) -> None:
    """Adds a block to OTHERS, Σ g p (or Σ g) without the first maximum, and puts its g in OWN."""
    lies = g + (int(state[at.FIRST]) - begin) * width(zero)
    inside = g <= lies < g + n * width(zero)
    if inside:
        own = load_one(lies, zero)
        state[at.OWN] = own
        store_one(lies, zero)
    refs = splat(cast(state[at.REF], zero))
    inverse = splat(cast(1.0 / (1.0 + state[at.REST]), zero))
    wide = widen_sum(splat(zero))
    for j in range(block[3]):
        term = load(g + j * BYTES, zero)
        if softmax:
            term = times(exp_gap(load(vector_address(block, j), zero), refs) * inverse, term)
        wide = wide + widen_sum(term)
    state[at.OTHERS] += total(wide)
    if inside:
        store_one(lies, own)


@device_function
def write_row(
    state: Any, block: Any, values: int, g: int, out: int, factor: float, softmax: bool, gradient: bool, zero: Any
) -> None:
    """A block's values, and where wanted its gradient; g: where the upstream gradient lies, or 0 for ones."""
    d = 1.0 + state[at.REST]
    refs = splat(cast(state[at.REF], zero))
    inverse = splat(cast(1.0 / d, zero))
    log_rest = splat(cast(state[at.LOG_REST], zero))
    whole = state[at.OTHERS] + (state[at.OWN] / d if softmax else state[at.OWN])
    if softmax and not g:
        whole = 1.0
    sums = splat(cast(whole, zero))
    factors = splat(cast(factor, zero))
    ones = splat(cast(1.0, zero))
    for j in range(block[3]):
        x = load(vector_address(block, j), zero)
        p = exp_gap(x, refs) * inverse
        if gradient:
            upstream = load(g + j * BYTES, zero) if g else ones
            slope = times(p, upstream - sums) if softmax else upstream - p * sums
            store(out + j * BYTES, times(factors, slope))
        store(values + j * BYTES, p if softmax else 0.0 - ((refs - x) + log_rest))


@device_function
def exact_entry(state: Any, out: int, begin: int, n: int, factor: float, softmax: bool, zero: Any) -> None:
    """The gradient at the first maximum."""
    first = int(state[at.FIRST]) - begin
    d = 1.0 + state[at.REST]
    gone = state[at.OWN] * (state[at.REST] / d)
    slope = (gone - state[at.OTHERS]) / d if softmax else gone - state[at.OTHERS] / d
    if 0 <= first < n:
        store_one(out + first * width(zero), cast(factor * slope, zero))


@inlined
def activate(job: Any, layout: Any, where: Any, block: Any, scratch: int, states: Any, zero: Any) -> None:
    """The values of a tile of rows, and its gradient: block is where it lies if it is one block."""
    classes = layout[1]
    size = width(zero)
    stage = scratch + STAGED
    softmax = job.formula == SOFTMAX
    gradient = job.input_gradient != 0
    upstream = gradient and job.upstream != 0
    lowest = cast(-float("inf"), zero)
    for r in range(where[2]):
        d = 1.0 + states[r, at.REST]
        states[r, at.OWN] = 0.0 if upstream else 1.0
        states[r, at.OTHERS] = 0.0 if upstream else (states[r, at.REST] / d if softmax else classes - 1.0)
    # Twice over the row: sums of the upstream gradient, then what is written.
    for turn in range(0 if upstream else 1, 2):
        for begin in range(0, classes, BLOCK):
            n = min(BLOCK, classes - begin)
            steps = steps_of(n, size)
            if classes > BLOCK:
                at_input = scratch + INPUT
                load_tile(at_input, job.input, job.input_dtype, layout, where, begin, n, lowest, stage)
                block = (at_input, steps, at_input, steps)
            if upstream and (turn == 0 or classes > BLOCK):
                load_tile(scratch + UPSTREAM, job.upstream, job.upstream_dtype, layout, where, begin, n, zero, stage)
            for r in range(where[2]):
                state = states[r]
                shifted = (block[0] + r * PITCH, block[1], block[2], block[3])
                g = scratch + UPSTREAM + r * PITCH
                if turn == 0:
                    sum_upstream(state, shifted, g, begin, n, softmax, zero)
                    continue
                out = scratch + TARGET_OUT + r * PITCH
                values = scratch + MIXED + r * PITCH
                write_row(state, shifted, values, g if upstream else 0, out, job.scale, softmax, gradient, zero)
                if gradient:
                    exact_entry(state, out, begin, n, job.scale, softmax, zero)
            if turn == 1:
                store_tile(job.values, scratch + MIXED, job.values_dtype, layout, where, begin, n, zero, stage)
                if gradient:
                    dtype = job.input_gradient_dtype
                    store_tile(job.input_gradient, scratch + TARGET_OUT, dtype, layout, where, begin, n, zero, stage)

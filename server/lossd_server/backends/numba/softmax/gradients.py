"""Gradients of the softmax family, from a row's finished state."""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, ENTROPY_LOGITS
from lossd_server.backends.numba.layout.blocks import PITCH, fill, steps_of
from lossd_server.backends.numba.layout.row_tiles import entry, store_tile
from lossd_server.backends.numba.simd.memory import FLOAT32, FLOAT64, cast, copy_bytes, load_one, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.backends.numba.softmax.block_sums import (
    entropy_gradient,
    softmax_gradient,
    target_gradient,
    vector_address,
)
from lossd_server.backends.numba.softmax.row_state import INPUT, MIXED, OUT_TAIL, SLOPES, STAGED, TARGET_OUT, WEIGHTS
from lossd_server.backends.numba.softmax.softcap import apply_slopes
from lossd_server.jobs.jit import device_function, inlined

PAST_CACHE_BYTES = 1 << 22  # gradients over this size are stored past the cache,
PAST_CACHE_ROW = 1 << 14  # where a row has as many bytes: in shorter ones it costs more than it spares


@device_function
def set_entry(out: Any, c: int, value: float, zero: Any) -> None:
    """Overwrites entry c of an output block."""
    lanes = BYTES // width(zero)
    store_one(vector_address(out, c // lanes) + c % lanes * width(zero), cast(value, zero))


@device_function
def exact_entries(job: Any, state: Any, out: Any, begin: int, n: int, v: int, zero: Any) -> None:
    """Entries of the gradient that are differences, by forms that do not cancel: at the target, and at the greatest
    logit where p = 1 − rest/d. With S = share of the target, V = Σ v and Z = 2κ·lse of z_loss:
    dx = s·((S + V + Z)·p − S·[c = y] − v).
    """
    s = state[at.FACTOR]
    d = 1.0 + state[at.REST]
    share = state[at.SHARE]
    z = state[at.MASS_OF_Z]
    y = int(state[at.CLASS]) - begin if job.formula == CROSS_ENTROPY_INDEX else -1
    first = -1
    if v:
        first = int(state[at.FIRST]) - begin
    elif state[at.PICKED] == state[at.MAXIMUM]:
        first = y
    if 0 <= y < n and y != first:
        own = float(load_one(v + y * width(zero), zero)) if v else 0.0
        p = math.exp(state[at.PICKED] - state[at.MAXIMUM]) / d
        set_entry(out, y, s * ((share + state[at.MASS] + z) * p - share - own), zero)
    if 0 <= first < n:
        own = float(load_one(v + first * width(zero), zero)) if v else 0.0
        others = state[at.REST_MASS]
        if math.isnan(others):
            others = state[at.MASS] - own
        gone = state[at.REST] / d
        if first == y:
            set_entry(out, first, s * ((others + z) / d - (share + own) * gone), zero)
        else:
            set_entry(out, first, s * ((share + others + z) / d - own * gone), zero)


@device_function
def output_block(job: Any, layout: Any, where: Any, begin: int, n: int, r: int, scratch: int, zero: Any) -> Any:
    """Where a row's gradient goes: into the answer itself if it is contiguous and of the compute type, else scratch."""
    size = width(zero)
    steps = steps_of(n, size)
    if layout[2] > 1 or job.input_gradient_dtype != (FLOAT32 if size == 4 else FLOAT64):
        to = scratch + INPUT + r * PITCH
        return to, steps, to, steps
    return job.input_gradient + entry(layout, where[0], begin, 0) * size, n * size // BYTES, scratch + OUT_TAIL, steps


@inlined
def write_gradients(
    job: Any,
    layout: Any,
    where: Any,
    begin: int,
    n: int,
    block: Any,
    kept: int,
    fade: float,
    weighted: bool,
    states: Any,
    scratch: int,
    zero: Any,
) -> None:
    """The gradients of a tile's block. kept, fade: where its exponentials lie, times what they are relative to."""
    size = width(zero)
    stage = scratch + STAGED
    for r in range(where[2]):
        state = states[r]
        shifted = (block[0] + r * PITCH, block[1], block[2], block[3])
        ref = cast(state[at.REF], zero)
        s = state[at.FACTOR]
        d = 1.0 + state[at.REST]
        v = scratch + MIXED + r * PITCH if weighted else 0
        if job.target_gradient:
            weights = scratch + WEIGHTS if job.class_weight else 0
            to = scratch + TARGET_OUT + r * PITCH
            share = cast(s * (1.0 - job.label_smoothing), zero)
            target_gradient(shifted, to, weights, ref, cast(state[at.LOG_REST], zero), share)
        if not job.input_gradient:
            continue
        out = output_block(job, layout, where, begin, n, r, scratch, zero)
        staged = out[0] == scratch + INPUT + r * PITCH
        large = layout[1] * size >= PAST_CACHE_ROW and layout[0] * layout[1] * size > PAST_CACHE_BYTES
        past = large and not staged and job.softcap == 0.0 and out[0] % 64 == 0
        if not state[at.KEPT]:
            fill(out[0], 0, n, zero)
        elif job.formula == ENTROPY_LOGITS:
            entropy_gradient(shifted, out, ref, cast(s / d, zero), cast(state[at.GAPS] / d, zero), past)
        else:
            q = cast(fade * (s * (state[at.SHARE] + state[at.MASS] + state[at.MASS_OF_Z]) / d), zero)
            lanes = BYTES // size
            y, first = int(state[at.CLASS]) - begin, int(state[at.FIRST]) - begin if v else -1
            softmax_gradient(shifted, kept, out, v, ref, q, cast(s, zero), past, y // lanes, first // lanes)
            exact_entries(job, state, out, begin, n, v, zero)
        if job.softcap != 0.0 and state[at.KEPT]:
            apply_slopes(out, scratch + SLOPES + r * PITCH, zero)
        done = out[1] * (BYTES // size)
        if not staged and done < n and state[at.KEPT]:
            copy_bytes(out[0] + done * size, out[2], (n - done) * size)
    if job.input_gradient and output_block(job, layout, where, begin, n, 0, scratch, zero)[0] == scratch + INPUT:
        store_tile(job.input_gradient, scratch + INPUT, job.input_gradient_dtype, layout, where, begin, n, zero, stage)
    if job.target_gradient:
        store_tile(
            job.target_gradient, scratch + TARGET_OUT, job.target_gradient_dtype, layout, where, begin, n, zero, stage
        )

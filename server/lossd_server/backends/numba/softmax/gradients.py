"""Softmax gradients: of a tile's block, from its rows' finished states."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, ENTROPY_LOGITS
from lossd_server.backends.numba.layout.blocks import (
    PITCH,
    RowBlock,
    dtype_of,
    fill,
    in_scratch,
    row_of,
    vector_address,
    vector_count,
)
from lossd_server.backends.numba.layout.row_tiles import RowTile, entry, store_tile
from lossd_server.backends.numba.layout.scratch import INPUT, MIXED, OUT_TAIL, SLOPES, STAGED, TARGET_OUT, WEIGHTS
from lossd_server.backends.numba.simd.memory import cast, copy_bytes, load_one, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import (
    entropy_gradient,
    infinite_gradient,
    softmax_gradient,
    target_gradient,
)
from lossd_server.backends.numba.softmax.row_state import row_state
from lossd_server.backends.numba.softmax.softcap import apply_slopes
from lossd_server.jobs.jit import device_function, inlined
from lossd_server.jobs.reduction import annihilate

PAST_CACHE_BYTES = 1 << 22  # gradients over this size are stored past the cache,
PAST_CACHE_ROW = 1 << 14  # where a row has as many bytes: in shorter ones it costs more than it spares


class KeptExponentials(NamedTuple):
    """A block's exponentials: where they are kept, or 0, and what makes them relative to the row's maximum and unit."""

    address: int
    rescale: float


@device_function
def set_entry(out: RowBlock, c: int, value: float, zero: Any) -> None:
    """Overwrites entry c of an output block."""
    lanes = BYTES // width(zero)
    store_one(vector_address(out, c // lanes) + c % lanes * width(zero), cast(value, zero))


@device_function
def exact_entries(job: Any, state: Any, out: RowBlock, begin: int, n: int, v: int, zero: Any) -> None:
    """Entries of the gradient that are differences, by forms that do not cancel: at the target, and at the greatest
    logit where p = 1 − rest/d. With S = share of the target, V = Σ v and Z = 2κ·lse of z_loss:
    dx = s·((S + V + Z)·p − S·[c = y] − v).
    """
    s = state.factor
    d = 1.0 + state.rest
    share = state.share
    z = state.z_mass
    y = state.target - begin if job.formula == CROSS_ENTROPY_INDEX else -1
    first = -1
    if v:
        first = state.first - begin
    elif state.picked == state.maximum:
        first = y
    if 0 <= y < n and y != first:
        own = float(load_one(v + y * width(zero), zero)) if v else 0.0
        p = math.exp(state.picked - state.maximum) / d
        set_entry(out, y, annihilate(s, annihilate(share + state.mass + z, p) - share - own), zero)
    if 0 <= first < n:
        own = float(load_one(v + first * width(zero), zero)) if v else 0.0
        others = state.rest_mass
        if math.isnan(others):
            others = state.mass - own
        rest_p = state.rest / d
        if first == y:
            set_entry(out, first, annihilate(s, (others + z) / d - annihilate(share + own, rest_p)), zero)
        else:
            set_entry(out, first, annihilate(s, (share + others + z) / d - annihilate(own, rest_p)), zero)


@device_function
def staged(job: Any, tile: RowTile, zero: Any) -> bool:
    """Whether the input's gradient goes through scratch: unless it is contiguous and of the compute type."""
    return tile.stride > 1 or job.input_gradient_dtype != dtype_of(zero)


@device_function
def output_block(job: Any, tile: RowTile, begin: int, n: int, r: int, scratch: int, zero: Any) -> RowBlock:
    """Where a row's gradient is written: in the answer itself, but for a tail, or in scratch."""
    size = width(zero)
    vectors = vector_count(n, size)
    if staged(job, tile, zero):
        return in_scratch(scratch + INPUT + r * PITCH, vectors)
    return RowBlock(job.input_gradient + entry(tile, begin, 0) * size, n * size // BYTES, scratch + OUT_TAIL, vectors)


@device_function
def past_cache(job: Any, tile: RowTile, out: RowBlock, zero: Any) -> bool:
    """Whether a gradient is stored past the cache."""
    row_bytes = tile.classes * width(zero)
    large = row_bytes >= PAST_CACHE_ROW and job.outer * row_bytes > PAST_CACHE_BYTES
    return large and not staged(job, tile, zero) and job.softcap == 0.0 and out.body % 64 == 0


@inlined
def row_target_gradient(job: Any, block: RowBlock, r: int, state: Any, scratch: int, zero: Any) -> None:
    """A row's gradient with respect to its target distribution, to scratch."""
    weights = scratch + WEIGHTS if job.class_weight else 0
    share = cast(annihilate(state.factor, 1.0 - job.label_smoothing), zero)
    to = scratch + TARGET_OUT + r * PITCH
    target_gradient(block, to, weights, cast(state.ref, zero), cast(state.log_rest, zero), share)


@inlined
def row_input_gradient(
    job: Any,
    tile: RowTile,
    begin: int,
    n: int,
    r: int,
    block: RowBlock,
    v: int,
    kept: KeptExponentials,
    state: Any,
    scratch: int,
    zero: Any,
) -> None:
    """A row's gradient with respect to its logits, to where `output_block` says. v: where the target mix lies, or 0."""
    size = width(zero)
    lanes = BYTES // size
    out = output_block(job, tile, begin, n, r, scratch, zero)
    past = past_cache(job, tile, out, zero)
    if not state.kept:
        fill(out.body, 0, n, zero)
        return
    ref = cast(state.ref, zero)
    s = state.factor
    d = 1.0 + state.rest
    if job.formula == ENTROPY_LOGITS:
        q, gap = cast(s / (d * state.unit), zero), cast(state.gaps / d, zero)
        entropy_gradient(block, kept.address, out, ref, q, gap, past)
    else:
        pull = state.share + state.mass + state.z_mass
        rescale = kept.rescale / state.unit
        q = cast(rescale * (s * pull / d), zero)
        y, first = state.target - begin, state.first - begin if v else -1
        if abs(s) < math.inf and abs(pull) < math.inf and abs(q) < math.inf:
            softmax_gradient(block, kept.address, out, v, ref, q, cast(s, zero), past, y // lanes, first // lanes)
        else:
            ratio = cast(rescale * (pull / d), zero)
            infinite_gradient(block, kept.address, out, v, ref, ratio, cast(s, zero))
        exact_entries(job, state, out, begin, n, v, zero)
    if job.softcap != 0.0:
        apply_slopes(out, scratch + SLOPES + r * PITCH, zero)
    done = out.full * lanes
    if done < n:
        copy_bytes(out.body + done * size, out.tail, (n - done) * size)


@inlined
def write_gradients(
    job: Any,
    tile: RowTile,
    begin: int,
    n: int,
    block: RowBlock,
    mixed: bool,
    kept: KeptExponentials,
    scratch: int,
    zero: Any,
) -> None:
    """The gradients of a tile's block. mixed: whether it has a target mix in scratch."""
    stage = scratch + STAGED
    for r in range(tile.rows):
        state = row_state(scratch, r)
        own = row_of(block, r)
        v = scratch + MIXED + r * PITCH if mixed else 0
        if job.target_gradient:
            row_target_gradient(job, own, r, state, scratch, zero)
        if job.input_gradient:
            row_input_gradient(job, tile, begin, n, r, own, v, kept, state, scratch, zero)
    if job.input_gradient and staged(job, tile, zero):
        store_tile(job.input_gradient, scratch + INPUT, job.input_gradient_dtype, tile, begin, n, zero, stage)
    if job.target_gradient:
        store_tile(job.target_gradient, scratch + TARGET_OUT, job.target_gradient_dtype, tile, begin, n, zero, stage)

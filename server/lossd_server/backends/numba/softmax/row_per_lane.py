"""Row-per-lane softmax kernel: the softmax family for few classes, one row a lane, so that short rows fill vectors.

A tile is as many rows as a vector has lanes. Its classes are laid in scratch as vectors, class by class; every sum is
then over vectors, and what a row computes is the same wherever it lies and whatever its neighbours hold. The forms
are those of `row_per_block`, `target_mix` and `gradients`.
"""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import (
    CLASS_OUT_OF_RANGE,
    CROSS_ENTROPY_DISTRIBUTION,
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
)
from lossd_server.backends.numba.layout.blocks import GROUP, dtype_of
from lossd_server.backends.numba.layout.lane_tiles import LaneTile, lane_tile_at, load_classes
from lossd_server.backends.numba.simd.exponential import ExpScale, exp_scale, near_exp, scaled_exp
from lossd_server.backends.numba.simd.math import log1p_any, product, summand, times
from lossd_server.backends.numba.simd.memory import cast, load, load_one, load_wide, prefetch, size_of, store
from lossd_server.backends.numba.simd.operations import any_of, larger, select, splat, to_float64, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.lane_state import (
    CLASSES,
    EXPONENTIALS,
    LINEAR,
    MIXED,
    PICKED,
    SHARES,
    SLOPES,
    LaneSums,
)
from lossd_server.backends.numba.softmax.lane_targets import look_up, write_lane_losses
from lossd_server.backends.numba.softmax.row_per_lane_gradients import write_lane_gradients
from lossd_server.backends.numba.softmax.row_per_lane_outputs import keep_finished, write_measures
from lossd_server.backends.numba.softmax.softcap import cap
from lossd_server.backends.numba.softmax.target_mix import has_target_mix
from lossd_server.jobs.jit import device_function, inlined


@device_function
def mix_classes(job: Any, tile: LaneTile, scratch: int, zero: Any) -> None:
    """Lays the target mix v in scratch, class by class: see `target_mix.mix`."""
    distribution = job.formula == CROSS_ENTROPY_DISTRIBUTION
    smooth = job.label_smoothing / tile.classes
    if distribution:
        load_classes(scratch + MIXED, job.target, job.target_dtype, tile, scratch + LINEAR, zero)
        if not job.class_weight and smooth == 0.0:
            return
    keep = 1.0 - job.label_smoothing
    share = splat(cast(keep, zero))
    for c in range(tile.classes):
        v = splat(cast(smooth, zero))
        if distribution:
            t = load(scratch + MIXED + c * BYTES, zero)
            v = v + (t * share if keep != 0.0 else product(t, share))
        if job.class_weight:
            v = product(splat(load_one(job.class_weight + c * width(zero), zero)), v)
        store(scratch + MIXED + c * BYTES, v)


@inlined
def greatest_logits(classes: int, scratch: int, zero: Any) -> Any:
    """The maximum of every row; NaN is passed over (the sums find it)."""
    top = splat(zero) - math.inf
    for c in range(classes):
        top = larger(load(scratch + CLASSES + c * BYTES, zero), top)
    return top


@inlined
def exponential_sums(
    classes: int, ref: Any, by: ExpScale, near: bool, keep: bool, ahead: int, step: int, scratch: int, zero: Any
) -> Any:
    """(Σ exp(x − ref)·unit over x < ref, number of x = ref) of every row. keep: the terms are left in scratch. near: no
    row has a shift. ahead: where the next tile lies, which is prefetched, `step` bytes a class; or 0.
    """
    zeros = splat(zero)
    others = zeros
    below = to_float64(zeros)
    for group in range(0, classes, GROUP):
        narrow = zeros
        for c in range(group, min(group + GROUP, classes)):
            x = load(scratch + CLASSES + c * BYTES, zero)
            if ahead:
                prefetch(ahead + c * step)
                if step > 64:
                    prefetch(ahead + c * step + 64)
            e = near_exp(x, by) if near else scaled_exp(x, by)
            if keep:
                store(scratch + EXPONENTIALS + c * BYTES, e)
            other = x != ref
            narrow = select(other, narrow + e, narrow)
            others = select(other, others + 1.0, others)
        below = below + to_float64(narrow)
    return below, cast(classes, zero) - others


@device_function
def entropy_sums(classes: int, ref: Any, scratch: int, zero: Any) -> Any:
    """Σ (ref − x)·exp(x − ref)·unit of every row."""
    wide = to_float64(splat(zero))
    for group in range(0, classes, GROUP):
        narrow = splat(zero)
        for c in range(group, min(group + GROUP, classes)):
            e = load(scratch + EXPONENTIALS + c * BYTES, zero)
            narrow = narrow + times(e, ref - load(scratch + CLASSES + c * BYTES, zero))
        wide = wide + to_float64(narrow)
    return wide


@device_function
def weighted_sums(classes: int, ref: Any, scratch: int, zero: Any) -> Any:
    """(index of the first greatest logit, Σ v, Σ v·(ref − x)) of every row."""
    first = splat(zero) - 1.0
    mass = to_float64(splat(zero))
    weighted = mass
    for group in range(0, classes, GROUP):
        sum_mass = splat(zero)
        sum_weighted = splat(zero)
        for c in range(group, min(group + GROUP, classes)):
            x = load(scratch + CLASSES + c * BYTES, zero)
            v = load(scratch + MIXED + c * BYTES, zero)
            first = select((x == ref) & (first < 0.0), cast(c, zero), first)
            sum_mass = sum_mass + v
            sum_weighted = sum_weighted + summand(v, ref - x)
        mass = mass + to_float64(sum_mass)
        weighted = weighted + to_float64(sum_weighted)
    return first, mass, weighted


@inlined
def reduce_lanes(job: Any, classes: int, mixed: bool, ahead: int, step: int, scratch: int, zero: Any) -> LaneSums:
    """The sums of a tile that lies in scratch. One loop a sum, so that what one needs does not push the other's out of
    the registers. ahead, step: see `exponential_sums`.
    """
    zeros = splat(zero)
    top = greatest_logits(classes, scratch, zero)
    ref = select(top > -math.inf, top, zeros)
    by = exp_scale(ref)
    entropy = job.formula == ENTROPY_LOGITS or job.entropy != 0
    keep = entropy or job.input_gradient != 0
    if any_of(by.shift != 0.0):
        below, ties = exponential_sums(classes, ref, by, False, keep, ahead, step, scratch, zero)
    else:
        below, ties = exponential_sums(classes, ref, by, True, keep, ahead, step, scratch, zero)
    unit = to_float64(by.unit)
    below = below / unit
    gaps = to_float64(zeros)
    if entropy:
        gaps = entropy_sums(classes, ref, scratch, zero) / unit
    first, mass, weighted = zeros - 1.0, to_float64(zeros), to_float64(zeros)
    if mixed:
        first, mass, weighted = weighted_sums(classes, ref, scratch, zero)
    rest = below + (to_float64(ties) - 1.0)
    # No finite maximum, no softmax: all −∞, or +∞ among them.
    rest = select(to_float64(top - top) == 0.0, rest, math.nan)
    return LaneSums(top, ref, unit, below, rest, log1p_any(rest), gaps, first, mass, weighted)


@inlined
def lane_losses(job: Any, sums: LaneSums, scratch: int, zero: Any) -> Any:
    """The loss of every row, but for its weight."""
    top = to_float64(sums.top)
    if job.formula == ENTROPY_LOGITS:
        loss = sums.log_rest + sums.gaps / (sums.rest + 1.0)
    else:
        loss = product(sums.mass, sums.log_rest) + sums.weighted
        if job.formula == CROSS_ENTROPY_INDEX:
            picked = to_float64(load(scratch + PICKED, zero))
            loss = loss + product(load_wide(scratch + SHARES, zero), (top - picked) + sums.log_rest)
    if job.z_loss != 0.0:
        lse = top + sums.log_rest
        loss = loss + lse * lse * job.z_loss
    return loss


@device_function
def lane_tile(job: Any, tile: LaneTile, end: int, scratch: int, zero: Any) -> int:
    """Losses and gradients of a tile; the first row whose target is no class, or −1. end: of the rows to compute."""
    load_classes(scratch + CLASSES, job.input, job.input_dtype, tile, scratch + LINEAR, zero)
    if job.softcap != 0.0:
        cap(scratch + CLASSES, scratch + SLOPES, tile.classes, job.softcap, zero)
    invalid = look_up(job, tile, scratch + CLASSES, BYTES, width(zero), dtype_of(zero), scratch, zero)
    if invalid >= 0:
        return invalid
    mixed = has_target_mix(job)
    if mixed:
        mix_classes(job, tile, scratch, zero)
    ahead = 0
    step = tile.rows * size_of(job.input_dtype)
    if tile.inner == 1 and tile.row + 2 * tile.rows <= end:
        ahead = job.input + (tile.row + tile.rows) * tile.classes * size_of(job.input_dtype)
    sums = reduce_lanes(job, tile.classes, mixed, ahead, step, scratch, zero)
    if job.lse or job.entropy or job.argmax or job.correct:
        write_measures(job, tile, sums, scratch, zero)
    if job.finished:
        keep_finished(job, tile, sums, scratch, zero)
    write_lane_losses(job, tile, lane_losses(job, sums, scratch, zero), scratch, zero)
    if job.input_gradient or job.target_gradient:
        write_lane_gradients(job, tile, sums, mixed, scratch, zero)
    return -1


@inlined
def lane_rows(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Rows begin … end − 1 of a job of few classes; (fault, index), fault −1 where there is none."""
    row = begin
    while row < end:
        tile = lane_tile_at(job, row, end, zero)
        invalid = lane_tile(job, tile, end, scratch, zero)
        if invalid >= 0:
            return CLASS_OUT_OF_RANGE, invalid
        row += tile.rows
    return -1, 0

"""The softmax family for few classes: one row a lane, so that short rows fill whole vectors.

A tile is as many rows as a vector has lanes. Its classes are laid in scratch as vectors, class by class; every sum is
then over vectors, and what a row computes is the same wherever it lies and whatever its neighbours hold. The forms
are those of `row_per_block`, `target_mix` and `gradients`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_DISTRIBUTION, CROSS_ENTROPY_INDEX, ENTROPY_LOGITS
from lossd_server.backends.numba.layout.blocks import STAGE
from lossd_server.backends.numba.layout.lane_tiles import load_classes, store_classes
from lossd_server.backends.numba.simd.math import exp_gap, log1p_any
from lossd_server.backends.numba.simd.memory import cast, load, load_one, load_wide, store, store_one
from lossd_server.backends.numba.simd.operations import larger, rounded, select, splat, to_float64, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import GROUP, times
from lossd_server.backends.numba.softmax.row_per_lane_outputs import (
    cap_classes,
    first_greatest,
    write_finished,
    write_rows,
)
from lossd_server.backends.numba.softmax.row_state import annihilate, optional_number
from lossd_server.jobs.jit import device_function

NARROW = 512  # classes up to which rows go to lanes: above, the tile leaves the caches

# Scratch: the tile's classes, exponentials (then gradients), v, a linear copy with its stage, the target's gradient;
# one number a row: the target's class and logit, whether kept (compute type), share, gradient's factor, loss (float64).
CLASSES = 0
SPAN = (NARROW + 3) * BYTES  # not a multiple of 4 KiB: the same class of two tables would fight for a cache set
EXPONENTIALS = SPAN
MIXED = 2 * SPAN
LINEAR = 3 * SPAN
TARGET_OUT = LINEAR + SPAN + STAGE
SLOPES = TARGET_OUT + SPAN
TARGETS = SLOPES + SPAN
PICKED = TARGETS + BYTES
KEPT = PICKED + BYTES
SHARES = KEPT + BYTES
FACTORS = SHARES + 2 * BYTES
LOSSES = FACTORS + 2 * BYTES
ROOM = LOSSES + 2 * BYTES  # for by-products


@device_function
def look_up(job: Any, layout: Any, first_row: int, rows: int, scratch: int, zero: Any) -> int:
    """Lays the rows' targets, shares and factors in scratch; the first row whose target is no class, or −1."""
    size = width(zero)
    for r in range(rows):
        row = first_row + r
        kept = 1.0
        if job.formula == CROSS_ENTROPY_INDEX:
            y = load_one(job.target + 8 * row, np.int64(0))
            if y == job.ignore_index:
                y = np.int64(-1)
                kept = 0.0
            elif y < 0 or y >= layout[1]:
                return row
            picked = load_one(scratch + CLASSES + max(y, 0) * BYTES + r * size, zero)
            store_one(scratch + PICKED + r * size, picked)
            share = kept * (1.0 - job.label_smoothing)
            if kept:
                share *= optional_number(job.class_weight, y, zero)
            store_one(scratch + SHARES + r * 8, share)
            store_one(scratch + TARGETS + r * size, cast(y, zero))
        store_one(scratch + KEPT + r * size, cast(kept, zero))
        factor = job.scale * optional_number(job.row_weight, row, 0.0) * optional_number(job.row_upstream, row, 0.0)
        store_one(scratch + FACTORS + r * 8, factor)
    return -1


@device_function
def mix_classes(job: Any, layout: Any, where: Any, scratch: int, zero: Any) -> None:
    """Lays v in scratch, class by class: see `target_mix.mix`."""
    distribution = job.formula == CROSS_ENTROPY_DISTRIBUTION
    smooth = job.label_smoothing / layout[1]
    if distribution:
        load_classes(scratch + MIXED, job.target, job.target_dtype, layout, where, scratch + LINEAR, zero)
        if not job.class_weight and smooth == 0.0:
            return
    share = splat(cast(1.0 - job.label_smoothing, zero))
    for c in range(layout[1]):
        v = splat(cast(smooth, zero))
        if distribution:
            v = v + load(scratch + MIXED + c * BYTES, zero) * share
        if job.class_weight:
            v = times(splat(load_one(job.class_weight + c * width(zero), zero)), v)
        store(scratch + MIXED + c * BYTES, v)


@device_function
def entropy_sums(classes: int, ref: Any, scratch: int, zero: Any) -> Any:
    """Σ (ref − x)·exp(x − ref) of every row."""
    wide = to_float64(splat(zero))
    for group in range(0, classes, GROUP):
        narrow = splat(zero)
        for c in range(group, min(group + GROUP, classes)):
            e = load(scratch + EXPONENTIALS + c * BYTES, zero)
            narrow = narrow + times(e, ref - load(scratch + CLASSES + c * BYTES, zero))
        wide = wide + to_float64(narrow)
    return wide


@device_function
def nothing_weighted(zero: Any) -> Any:
    return splat(zero) - 1.0, to_float64(splat(zero)), to_float64(splat(zero))


@device_function
def weighted_sums(classes: int, ref: Any, scratch: int, zero: Any) -> Any:
    """(index of the first greatest logit, Σ v, Σ v·(ref − x)) of every row."""
    first, mass, weights = nothing_weighted(zero)
    for group in range(0, classes, GROUP):
        sum_mass = splat(zero)
        sum_weights = splat(zero)
        for c in range(group, min(group + GROUP, classes)):
            x = load(scratch + CLASSES + c * BYTES, zero)
            v = load(scratch + MIXED + c * BYTES, zero)
            first = select((x == ref) & (first < 0.0), cast(c, zero), first)
            sum_mass = sum_mass + v
            sum_weights = sum_weights + times(v, ref - x)
        mass = mass + to_float64(sum_mass)
        weights = weights + to_float64(sum_weights)
    return first, mass, weights


@device_function
def narrow_tile(job: Any, layout: Any, where: Any, scratch: int, zero: Any) -> int:
    """Losses and gradients of a tile; the first row whose target is no class, or −1."""
    first_row, rows = where
    classes = layout[1]
    index = job.formula == CROSS_ENTROPY_INDEX
    entropy = job.formula == ENTROPY_LOGITS
    weighted = job.formula == CROSS_ENTROPY_DISTRIBUTION or (index and job.label_smoothing > 0.0)
    load_classes(scratch + CLASSES, job.input, job.input_dtype, layout, where, scratch + LINEAR, zero)
    if job.softcap != 0.0:
        cap_classes(scratch + CLASSES, scratch + SLOPES, classes, job.softcap, zero)
    wrong = look_up(job, layout, first_row, rows, scratch, zero)
    if wrong >= 0:
        return wrong
    if weighted:
        mix_classes(job, layout, where, scratch, zero)

    nothing = splat(zero)
    top = nothing - float("inf")
    for c in range(classes):
        top = larger(load(scratch + CLASSES + c * BYTES, zero), top)
    ref = select(top > -float("inf"), top, nothing)
    ties = nothing
    below = to_float64(nothing)
    for group in range(0, classes, GROUP):
        narrow = nothing
        for c in range(group, min(group + GROUP, classes)):
            x = load(scratch + CLASSES + c * BYTES, zero)
            e = exp_gap(x, ref)
            store(scratch + EXPONENTIALS + c * BYTES, e)
            narrow = narrow + select(x == ref, 0.0, e)
            ties = select(x == ref, ties + 1.0, ties)
        below = below + to_float64(narrow)
    # Loops of their own, so that what one needs does not push the other's sums out of the registers.
    gaps = entropy_sums(classes, ref, scratch, zero) if entropy or job.entropy else to_float64(nothing)
    first, mass, weights = weighted_sums(classes, ref, scratch, zero) if weighted else nothing_weighted(zero)
    rest = below + (to_float64(ties) - 1.0)
    # No finite maximum, no softmax: all −∞, or +∞ among them.
    rest = select(to_float64(top - top) == 0.0, rest, math.nan)
    log_rest = log1p_any(rest)
    kept = load(scratch + KEPT, zero) > 0.0
    if entropy:
        loss = log_rest + gaps / (rest + 1.0)
    else:
        loss = times(mass, log_rest) + weights
        if index:
            picked = to_float64(load(scratch + PICKED, zero))
            loss = loss + times(load_wide(scratch + SHARES, zero), (to_float64(top) - picked) + log_rest)
    lse = to_float64(top) + log_rest
    z = lse * (2.0 * job.z_loss)
    if job.z_loss != 0.0:
        loss = loss + lse * lse * job.z_loss
    if job.lse or job.entropy or job.argmax or job.correct:
        greatest = select(below == below, first_greatest(scratch + CLASSES, classes, top, zero), -1.0)
        write_rows(job, first_row, rows, greatest, lse, log_rest + gaps / (rest + 1.0), scratch + ROOM, zero)
    if job.finished:
        write_finished(job, where, first, log_rest, scratch + FACTORS, scratch + ROOM, zero)
    store(scratch + LOSSES, select(kept, loss, 0.0))
    for r in range(rows):
        loss_of_row = load_one(scratch + LOSSES + 8 * r, 0.0)
        weight = optional_number(job.row_weight, first_row + r, 0.0)
        store_one(job.losses + 8 * (first_row + r), annihilate(weight, loss_of_row))
    if not (job.input_gradient or job.target_gradient):
        return -1

    factor = load_wide(scratch + FACTORS, zero)
    d = rest + 1.0
    if job.target_gradient:
        own_factor = rounded(factor * (1.0 - job.label_smoothing), zero)
        nats = rounded(log_rest, zero)
        for c in range(classes):
            gap = (ref - load(scratch + CLASSES + c * BYTES, zero)) + nats
            if job.class_weight:
                w = splat(load_one(job.class_weight + c * width(zero), zero))
                store(scratch + TARGET_OUT + c * BYTES, times(w * own_factor, gap))
            else:
                store(scratch + TARGET_OUT + c * BYTES, times(own_factor, gap))
    if job.input_gradient:
        share = load_wide(scratch + SHARES, zero) if index else to_float64(nothing)
        if job.z_loss == 0.0:
            z = to_float64(nothing)
        q = rounded(factor * (share + mass + z) / d, zero)
        if entropy:
            q = rounded(factor / d, zero)
        mean_gap = rounded(gaps / d, zero)
        at_target = rounded(factor * share, zero)
        gone = rest / d
        target = load(scratch + TARGETS, zero) if index else nothing - 1.0
        # At the greatest logit p = 1 − rest/d: see `gradients.exact_entries`.
        at_first = rounded(factor * (z / d - share * gone), zero)
        s = rounded(factor, zero)
        if weighted:
            others = to_float64(nothing)
            own = nothing
            for c in range(classes):
                v = load(scratch + MIXED + c * BYTES, zero)
                is_first = first == cast(c, zero)
                others = others + to_float64(select(is_first, 0.0, v))
                own = select(is_first, v, own)
            own_wide = to_float64(own)
            hit = (others + z) / d - (share + own_wide) * gone
            miss = (share + others + z) / d - own_wide * gone
            at_first = rounded(factor * select(to_float64(target) == to_float64(first), hit, miss), zero)
        for c in range(classes):
            lies = scratch + EXPONENTIALS + c * BYTES
            x = load(scratch + CLASSES + c * BYTES, zero)
            g = load(lies, zero) * q
            if entropy:
                g = times(g, (ref - x) - mean_gap)
            elif weighted:
                g = g - times(load(scratch + MIXED + c * BYTES, zero), s)
                g = select(target == cast(c, zero), g - at_target, g)
                g = select(first == cast(c, zero), at_first, g)
            else:
                g = select(target == cast(c, zero), select(x == ref, at_first, g - at_target), g)
            if job.softcap != 0.0:
                g = g * load(scratch + SLOPES + c * BYTES, zero)
            store(lies, select(kept, g, 0.0))
        store_classes(
            job.input_gradient, scratch + EXPONENTIALS, job.input_gradient_dtype, layout, where, scratch + LINEAR, zero
        )
    if job.target_gradient:
        store_classes(
            job.target_gradient, scratch + TARGET_OUT, job.target_gradient_dtype, layout, where, scratch + LINEAR, zero
        )
    return -1


@device_function
def narrow_rows(job: Any, layout: Any, begin: int, end: int, scratch: int, zero: Any) -> int:
    """Rows begin … end − 1 of a job with at most NARROW classes; the first row whose target is no class, or −1."""
    lanes = BYTES // width(zero)
    inner = layout[2]
    row = begin
    while row < end:
        rows = min(lanes, end - row)
        if inner > 1:
            # Whole outer indices where they are small, else rows of one outer index: what lies together.
            rows = min(rows, lanes // inner * inner if inner <= lanes // 2 else inner - row % inner)
        wrong = narrow_tile(job, layout, (row, rows), scratch, zero)
        if wrong >= 0:
            return wrong
        row += rows
    return -1

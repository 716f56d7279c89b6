"""Row-per-lane softmax gradients: as `gradients`, of a tile whose rows are lanes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, ENTROPY_LOGITS
from lossd_server.backends.numba.layout.lane_tiles import LaneTile, store_classes
from lossd_server.backends.numba.simd.math import product, times
from lossd_server.backends.numba.simd.memory import cast, load, load_one, load_wide, store
from lossd_server.backends.numba.simd.operations import absolute, any_of, rounded, select, splat, to_float64, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.lane_state import (
    CLASSES,
    EXPONENTIALS,
    FACTORS,
    KEPT,
    LINEAR,
    MIXED,
    SHARES,
    SLOPES,
    TARGET_OUT,
    TARGETS,
    LaneSums,
)
from lossd_server.jobs.jit import device_function, inlined


class Coefficients(NamedTuple):
    """What the gradients of a tile are made of: vectors of the compute type, one row a lane.

    With S = share of the target, V = Σ v and Z = 2κ·lse of z_loss: dx = s·((S + V + Z)·p − S·[c = y] − v).
    """

    s: Any  # the gradient's factor; 1 where it, or what it multiplies, is not finite
    late: Any  # the factor, by which the finished gradient of those is multiplied
    apart: Any  # 1 for those lanes, else 0
    q: Any  # of exp(x − ref)·unit: s·(S + V + Z) / (d·unit)
    mean_gap: Any  # of the entropy: Σ (ref − x)·p
    target: Any  # the target's class, or −1
    at_target: Any  # s·S, taken away there
    at_first: Any  # the gradient at the greatest logit, by a form that does not cancel: p = 1 − rest/d


@inlined
def gradient_at_first(
    classes: int, sums: LaneSums, share: Any, z: Any, factor: Any, target: Any, scratch: int, zero: Any
) -> Any:
    """The gradient at the first greatest logit, where there is a target mix: see `gradients.exact_entries`."""
    d = sums.rest + 1.0
    rest_p = sums.rest / d
    others = to_float64(splat(zero))
    own = splat(zero)
    for c in range(classes):
        v = load(scratch + MIXED + c * BYTES, zero)
        is_first = sums.first == cast(c, zero)
        others = others + to_float64(select(is_first, 0.0, v))
        own = select(is_first, v, own)
    own_wide = to_float64(own)
    hit = (others + z) / d - product(share + own_wide, rest_p)
    miss = (share + others + z) / d - product(own_wide, rest_p)
    return rounded(factor * select(to_float64(target) == to_float64(sums.first), hit, miss), zero)


@inlined
def coefficients(job: Any, classes: int, sums: LaneSums, mixed: bool, scratch: int, zero: Any) -> Coefficients:
    """The coefficients of a tile's gradients."""
    zeros = splat(zero)
    index = job.formula == CROSS_ENTROPY_INDEX
    whole = load_wide(scratch + FACTORS, zero)
    d = sums.rest + 1.0
    share = load_wide(scratch + SHARES, zero) if index else to_float64(zeros)
    target = load(scratch + TARGETS, zero) if index else zeros - 1.0
    z = to_float64(zeros)
    if job.z_loss != 0.0:
        z = (to_float64(sums.top) + sums.log_rest) * (2.0 * job.z_loss)
    pull = share + sums.mass + z
    e_sum = d * sums.unit
    early = rounded(whole * pull / e_sum, zero)
    finite = absolute(early) < math.inf  # and with it what it was made of
    wide = absolute(to_float64(early)) < math.inf
    factor = select(wide, whole, 1.0)
    q = select(finite, early, rounded(pull / e_sum, zero))
    if job.formula == ENTROPY_LOGITS:
        q = rounded(factor / e_sum, zero)
    at_first = rounded(factor * (z / d - product(share, sums.rest / d)), zero)
    if mixed:
        at_first = gradient_at_first(classes, sums, share, z, factor, target, scratch, zero)
    mean_gap = rounded(sums.gaps / d, zero)
    late = rounded(whole, zero)
    apart = select(finite, zeros, 1.0)
    return Coefficients(
        rounded(factor, zero), late, apart, q, mean_gap, target, rounded(factor * share, zero), at_first
    )


@device_function
def store_lane_gradients(
    job: Any, classes: int, sums: LaneSums, of: Coefficients, mixed: bool, rare: bool, scratch: int, zero: Any
) -> None:
    """The gradient with respect to the logits, in the place of the exponentials. rare: whether some lanes go apart."""
    kept = load(scratch + KEPT, zero) > 0.0
    apart = of.apart > 0.0
    for c in range(classes):
        at = scratch + EXPONENTIALS + c * BYTES
        x = load(scratch + CLASSES + c * BYTES, zero)
        e = load(at, zero)
        g = e * of.q
        if rare:
            g = select(apart, times(e, of.q), g)
        if job.formula == ENTROPY_LOGITS:
            g = times(g, (sums.ref - x) - of.mean_gap)
        elif mixed:
            g = g - load(scratch + MIXED + c * BYTES, zero) * of.s
            g = select(of.target == cast(c, zero), g - of.at_target, g)
            g = select(sums.first == cast(c, zero), of.at_first, g)
        else:
            g = select(of.target == cast(c, zero), select(x == sums.ref, of.at_first, g - of.at_target), g)
        if rare:
            g = select(apart, product(g, of.late), g)
        if job.softcap != 0.0:
            g = times(load(scratch + SLOPES + c * BYTES, zero), g)
        store(at, select(kept, g, 0.0))


@inlined
def lane_input_gradient(job: Any, tile: LaneTile, sums: LaneSums, mixed: bool, scratch: int, zero: Any) -> None:
    """The gradient with respect to the logits, by way of scratch, to the answer."""
    of = coefficients(job, tile.classes, sums, mixed, scratch, zero)
    if any_of(of.apart > 0.0):
        store_lane_gradients(job, tile.classes, sums, of, mixed, True, scratch, zero)
    else:
        store_lane_gradients(job, tile.classes, sums, of, mixed, False, scratch, zero)
    dtype = job.input_gradient_dtype
    store_classes(job.input_gradient, scratch + EXPONENTIALS, dtype, tile, scratch + LINEAR, zero)


@inlined
def lane_target_gradient(job: Any, tile: LaneTile, sums: LaneSums, scratch: int, zero: Any) -> None:
    """The gradient with respect to the target distribution, by way of scratch."""
    factor = load_wide(scratch + FACTORS, zero)
    keep = 1.0 - job.label_smoothing
    kept = factor * keep if keep != 0.0 else select(factor == factor, 0.0, factor)
    share = rounded(kept, zero)
    log_rest = rounded(sums.log_rest, zero)
    for c in range(tile.classes):
        nats = (sums.ref - load(scratch + CLASSES + c * BYTES, zero)) + log_rest
        if job.class_weight:
            w = splat(load_one(job.class_weight + c * width(zero), zero))
            store(scratch + TARGET_OUT + c * BYTES, product(product(w, share), nats))
        else:
            store(scratch + TARGET_OUT + c * BYTES, product(share, nats))
    dtype = job.target_gradient_dtype
    store_classes(job.target_gradient, scratch + TARGET_OUT, dtype, tile, scratch + LINEAR, zero)


@inlined
def write_lane_gradients(job: Any, tile: LaneTile, sums: LaneSums, mixed: bool, scratch: int, zero: Any) -> None:
    """The gradients of a tile that were asked for."""
    if job.target_gradient:
        lane_target_gradient(job, tile, sums, scratch, zero)
    if job.input_gradient:
        lane_input_gradient(job, tile, sums, mixed, scratch, zero)

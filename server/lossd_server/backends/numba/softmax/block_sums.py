"""Block reductions of the softmax family: maximum, sums of exponentials, weighted sums, gradients.

A block is padded with −∞ and so its padding adds nothing. Sums run in the lanes over at most eight vectors, are widened
to float64 and added there, with a fixed tree at the end: the error of a sum does not grow with the number of classes.

`ref` is the greatest logit so far (0 while that is −∞), so every exponent is ≤ 0.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.layout.blocks import GROUP, RowBlock, vector_address
from lossd_server.backends.numba.simd.exponential import ExpScale, exp_scale, near_exp, scaled_exp
from lossd_server.backends.numba.simd.math import product, summand, times
from lossd_server.backends.numba.simd.memory import load, load_one, prefetch, store, store_past_cache
from lossd_server.backends.numba.simd.operations import (
    any_of,
    count_of,
    first_lane,
    greatest,
    larger,
    select,
    splat,
    total,
    widen_sum,
    width,
)
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function

INFINITY = float("inf")


@device_function
def largest(block: RowBlock, zero: Any) -> Any:
    """The maximum; NaN is passed over (the sums find it)."""
    even = splat(zero) - INFINITY
    odd = even
    vectors = block.vectors
    for j in range(vectors // 2):
        even = larger(load(vector_address(block, 2 * j), zero), even)
        odd = larger(load(vector_address(block, 2 * j + 1), zero), odd)
    if vectors % 2:
        even = larger(load(vector_address(block, vectors - 1), zero), even)
    return greatest(larger(even, odd))


@device_function
def first_equal(block: RowBlock, value: Any, zero: Any) -> int:
    """Index of the first entry equal to `value`, or −1."""
    wanted = splat(value)
    lanes = BYTES // width(zero)
    for j in range(block.vectors):
        at = vector_address(block, j)
        if any_of(load(at, zero) == wanted):
            for lane in range(lanes):
                if load_one(at + lane * width(zero), zero) == value:
                    return j * lanes + lane
    return -1


@device_function
def exp_sums(
    block: RowBlock, ref: Any, by: ExpScale, keep: int, ahead: int, vector_bytes: int, zero: Any
) -> tuple[float, float]:
    """(Σ exp(x − ref)·unit over x < ref, number of x = ref). Where `keep` is an address the terms are left there.

    The next block, at `ahead`, `vector_bytes` a vector, is prefetched while this one is computed: without it a loss
    whose rows come from memory took the time of reading plus the time of computing. 0: nothing is prefetched.
    """
    refs = splat(ref)
    ties = 0
    wide = widen_sum(splat(zero))
    vectors = block.vectors
    near = first_lane(by.shift) == 0
    for group in range(0, vectors, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, vectors)):
            if ahead:
                prefetch(ahead + j * vector_bytes)
                if vector_bytes > 64:
                    prefetch(ahead + j * vector_bytes + 64)
            x = load(vector_address(block, j), zero)
            e = near_exp(x, by) if near else scaled_exp(x, by)
            if keep:
                store(keep + j * BYTES, e)
            ties += count_of(x == refs)
            narrow = select(x == refs, narrow, narrow + e)
        wide = wide + widen_sum(narrow)
    return total(wide), float(ties)


@device_function
def exponential(block: RowBlock, kept: int, j: int, by: ExpScale, zero: Any) -> Any:
    """exp(x − ref)·unit of vector j: the one that `exp_sums` left at `kept`, or computed again, to the same bits."""
    return load(kept + j * BYTES, zero) if kept else scaled_exp(load(vector_address(block, j), zero), by)


@device_function
def entropy_sum(block: RowBlock, kept: int, ref: Any, zero: Any) -> float:
    """Σ (ref − x)·exp(x − ref). kept: see `exponential`."""
    refs = splat(ref)
    by = exp_scale(refs)
    wide = widen_sum(splat(zero))
    vectors = block.vectors
    for group in range(0, vectors, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, vectors)):
            x = load(vector_address(block, j), zero)
            narrow = narrow + times(exponential(block, kept, j, by, zero), refs - x)
        wide = wide + widen_sum(narrow)
    return total(wide) / float(first_lane(by.unit))


@device_function
def gap_sum(block: RowBlock, weights: int, ref: Any, zero: Any) -> float:
    """Σ v·(ref − x), v at `weights`."""
    refs = splat(ref)
    wide = widen_sum(splat(zero))
    vectors = block.vectors
    for group in range(0, vectors, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, vectors)):
            gap = refs - load(vector_address(block, j), zero)
            narrow = narrow + summand(load(weights + j * BYTES, zero), gap)
        wide = wide + widen_sum(narrow)
    return total(wide)


@device_function
def plain_sum(at: int, vectors: int, zero: Any) -> float:
    """Σ of scratch."""
    wide = widen_sum(splat(zero))
    for j in range(vectors):
        wide = wide + widen_sum(load(at + j * BYTES, zero))
    return total(wide)


@device_function
def store_vector(to: int, value: Any, past_cache: bool) -> None:
    if past_cache:
        store_past_cache(to, value)
    else:
        store(to, value)


@device_function
def infinite_gradient(block: RowBlock, kept: int, out: RowBlock, weights: int, ref: Any, ratio: Any, s: Any) -> None:
    """out = s·(ratio·exp(x − ref)·unit − v): `softmax_gradient` where a factor is infinite, which a 0 annihilates."""
    by, ratios, ss = exp_scale(splat(ref)), splat(ratio), splat(s)
    for j in range(block.vectors):
        slope = product(exponential(block, kept, j, by, s), ratios)
        if weights:
            slope = slope - load(weights + j * BYTES, s)
        store(vector_address(out, j), product(slope, ss))


@device_function
def softmax_gradient(
    block: RowBlock, kept: int, out: RowBlock, weights: int, ref: Any, q: Any, s: Any, past: bool, near: int, other: int
) -> None:
    """out = q·exp(x − ref)·unit − s·v (v = 0 where `weights` is no address).

    past: stored past the cache, but for the vectors `near` and `other`, which are written to again at once: a line that
    has left for memory would be waited for, 450 ns a row.
    """
    by = exp_scale(splat(ref))
    qs = splat(q)
    if weights:
        ss = splat(s)
        for j in range(block.vectors):
            e = exponential(block, kept, j, by, q)
            away = past and j < out.full and j != near and j != other
            store_vector(vector_address(out, j), e * qs - times(load(weights + j * BYTES, q), ss), away)
    else:
        for j in range(block.vectors):
            away = past and j < out.full and j != near
            store_vector(vector_address(out, j), exponential(block, kept, j, by, q) * qs, away)


@device_function
def entropy_gradient(block: RowBlock, kept: int, out: RowBlock, ref: Any, q: Any, mean_gap: Any, past: bool) -> None:
    """out = q·exp(x − ref)·unit·((ref − x) − mean_gap)."""
    refs = splat(ref)
    by = exp_scale(refs)
    qs = splat(q)
    for j in range(block.vectors):
        x = load(vector_address(block, j), q)
        slope = times(exponential(block, kept, j, by, q), (refs - x) - mean_gap)
        store_vector(vector_address(out, j), times(slope, qs), past and j < out.full)


@device_function
def target_gradient(block: RowBlock, out: int, weights: int, ref: Any, log_rest: Any, s: Any) -> None:
    """out = s·w·((ref − x) + log_rest), w at `weights` or 1."""
    refs = splat(ref)
    factor = splat(s)
    for j in range(block.vectors):
        nats = (refs - load(vector_address(block, j), s)) + log_rest
        if weights:
            store(out + j * BYTES, product(product(load(weights + j * BYTES, s), factor), nats))
        else:
            store(out + j * BYTES, product(factor, nats))

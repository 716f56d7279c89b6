"""Elementwise kernel: chunks of whole items, in runs of 4,096 elements in C order.

A chunk's losses are summed in the lanes, group by group, widened to float64, by a fixed tree: what is added to what
depends on the item's size alone, not on how a request was cut or batched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd.contract import MAX_RANK
from lossd_server.backends.numba.batch_table import (
    BCE,
    BCE_WITH_LOGITS,
    INPUT_NOT_PROBABILITY,
    KL,
    SELF_INFORMATION,
    SIGMOID,
    TARGET_NOT_PROBABILITY,
)
from lossd_server.backends.numba.elementwise.formulas import (
    bce_element,
    bce_with_logits_element,
    kl_element,
    log_sigmoid_element,
    outside,
    padding,
    self_information_element,
    sigmoid_element,
)
from lossd_server.backends.numba.layout.blocks import (
    BLOCK,
    GROUP,
    PITCH,
    dtype_of,
    fill,
    load_block,
    store_block,
    vector_count,
)
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.scratch import STAGED
from lossd_server.backends.numba.simd.math import product, times
from lossd_server.backends.numba.simd.memory import cast, load, load_one, size_of, store, store_one
from lossd_server.backends.numba.simd.operations import any_of, splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import store_vector
from lossd_server.backends.numba.softmax.gradients import PAST_CACHE_BYTES
from lossd_server.jobs.jit import device_function, inlined, njit

INFINITY = float("inf")
# Scratch rows of a run; the gradients take the places of what they were made from.
INPUT, TARGET, WEIGHT, POS_WEIGHT, UPSTREAM, LOSS = (PITCH * i for i in range(6))


@device_function
def load_view(
    to: int, at: int, dtype: int, shape: Any, strides: Any, begin: int, n: int, zero: Any, stage: int
) -> None:
    """Elements begin … begin + n − 1, in C order, of an operand broadcast to `shape`, padded with 0. The innermost
    stride is 0 or 1: wire tensors are dense.
    """
    size = size_of(dtype)
    inner = shape[MAX_RANK - 1]
    done = 0
    while done < n:
        i = begin + done
        column = i % inner
        count = min(inner - column, n - done)
        rest = i // inner
        offset = column * strides[MAX_RANK - 1]
        for axis in range(MAX_RANK - 2, -1, -1):
            offset += rest % shape[axis] * strides[axis]
            rest //= shape[axis]
        here = to + done * width(zero)
        if strides[MAX_RANK - 1]:
            load_block(here, at + offset * size, count, dtype, zero, stage)
        else:
            load_block(here, at + offset * size, 1, dtype, zero, stage)
            fill(here, 1, count, load_one(here, zero))
        done += count
    fill(to, n, vector_count(n, width(zero)) * (BYTES // width(zero)), zero)


class RunPlaces(NamedTuple):
    """Where a run's operands and answers lie: in the request and the answer themselves, or in scratch."""

    input: int
    target: int
    loss: int
    input_gradient: int
    target_gradient: int
    past: bool  # gradients are written past the cache


@device_function
def place_of(at: int, dtype: int, begin: int, n: int, scratch: int, zero: Any) -> int:
    """Where a run's elements are read or written: where they lie, if in whole vectors of the compute type."""
    if at and dtype == dtype_of(zero) and n % (BYTES // width(zero)) == 0:
        return at + begin * width(zero)
    return scratch


@device_function
def load_run(job: Any, begin: int, n: int, scratch: int, zero: Any) -> RunPlaces:
    """Lays those of a run's operands in scratch that are not read where they lie, padded so that the padding adds
    nothing.
    """
    stage = scratch + STAGED
    shape = job.shape
    pad, target_pad = padding(job)
    at, dtype = job.input, job.input_dtype
    input_at = place_of(at, dtype, begin, n, scratch + INPUT, zero)
    if input_at == scratch + INPUT:
        load_block(scratch + INPUT, at + begin * size_of(dtype), n, dtype, cast(pad, zero), stage)
    at, dtype = job.target, job.target_dtype
    target_at = place_of(at, dtype, begin, n, scratch + TARGET, zero)
    if at and target_at == scratch + TARGET:
        load_block(scratch + TARGET, at + begin * size_of(dtype), n, dtype, cast(target_pad, zero), stage)
    if job.weight:
        load_view(scratch + WEIGHT, job.weight, job.weight_dtype, shape, job.weight_strides, begin, n, zero, stage)
    if job.pos_weight:
        at, dtype = job.pos_weight, job.pos_weight_dtype
        load_view(scratch + POS_WEIGHT, at, dtype, shape, job.pos_weight_strides, begin, n, zero, stage)
    if job.upstream:
        at, dtype = job.upstream, job.upstream_dtype
        load_view(scratch + UPSTREAM, at, dtype, shape, job.upstream_strides, begin, n, zero, stage)
    loss_at, gradient_at, other_at = scratch + LOSS, scratch + INPUT, scratch + TARGET
    if job.formula != BCE:  # where a value may be found to be none, nothing is written before
        loss_at = place_of(job.values, job.values_dtype, begin, n, loss_at, zero)
        gradient_at = place_of(job.input_gradient, job.input_gradient_dtype, begin, n, gradient_at, zero)
        other_at = place_of(job.target_gradient, job.target_gradient_dtype, begin, n, other_at, zero)
    large = job.outer * job.classes * width(zero) > PAST_CACHE_BYTES
    direct = gradient_at != scratch + INPUT and (other_at != scratch + TARGET or not job.target_gradient)
    past = large and direct and (gradient_at | other_at) % 64 == 0
    return RunPlaces(input_at, target_at, loss_at, gradient_at, other_at, past)


def run_of(compute: Any) -> Any:
    """The loop over a run for one formula: (sum of losses, whether a value is outside of what the formula takes).
    Losses (or an activation) and gradients are left in their places.
    """

    @device_function
    def compute_run(job: Any, n: int, places: RunPlaces, scratch: int, zero: Any) -> tuple[float, bool]:
        vectors = vector_count(n, width(zero))
        one = cast(1.0, zero)
        scale = splat(cast(job.scale, zero))
        gradient = job.input_gradient != 0 or job.target_gradient != 0
        # Without weights a factor is the scale, which is finite but for an infinite upstream gradient.
        rare = job.weight != 0 or job.upstream != 0 or not abs(cast(job.scale, zero)) < INFINITY
        wide = widen_sum(splat(zero))
        bad = False
        for group in range(0, vectors, GROUP):
            narrow = splat(zero)
            for j in range(group, min(group + GROUP, vectors)):
                at = scratch + j * BYTES
                x = load(places.input + j * BYTES, zero)
                t = load(places.target + j * BYTES, zero) if job.target else splat(zero)
                pos_weight = load(at + POS_WEIGHT, zero) if job.pos_weight else splat(one)
                bad = bad or any_of(outside(job, x, t))
                loss, slope, target_slope = compute(job, x, t, pos_weight)
                factor = scale
                if job.weight:
                    w = load(at + WEIGHT, zero)
                    loss = product(w, loss)
                    factor = product(factor, w)
                if gradient:
                    if job.upstream:
                        factor = product(factor, load(at + UPSTREAM, zero))
                    if job.input_gradient:
                        slope = product(factor, slope) if rare else times(factor, slope)
                        store_vector(places.input_gradient + j * BYTES, slope, places.past)
                    if job.target_gradient:
                        slope = product(factor, target_slope) if rare else times(factor, target_slope)
                        store_vector(places.target_gradient + j * BYTES, slope, places.past)
                if job.values:
                    store(places.loss + j * BYTES, loss)
                narrow = narrow + loss
            wide = wide + widen_sum(narrow)
        return total(wide), bad

    return compute_run


bce_run = run_of(bce_element)
bce_with_logits_run = run_of(bce_with_logits_element)
kl_run = run_of(kl_element)
self_information_run = run_of(self_information_element)
sigmoid_run = run_of(sigmoid_element)
log_sigmoid_run = run_of(log_sigmoid_element)


@inlined
def compute_run(job: Any, n: int, places: RunPlaces, scratch: int, zero: Any) -> tuple[float, bool]:
    """The run of a job's formula: a loop each, so that nothing is decided inside."""
    formula = job.formula
    if formula == BCE:
        return bce_run(job, n, places, scratch, zero)
    if formula == BCE_WITH_LOGITS:
        return bce_with_logits_run(job, n, places, scratch, zero)
    if formula == KL:
        return kl_run(job, n, places, scratch, zero)
    if formula == SELF_INFORMATION:
        return self_information_run(job, n, places, scratch, zero)
    if formula == SIGMOID:
        return sigmoid_run(job, n, places, scratch, zero)
    return log_sigmoid_run(job, n, places, scratch, zero)


@inlined
def first_outside(job: Any, begin: int, n: int, scratch: int, zero: Any) -> tuple[int, int]:
    """(fault, index) of the first element of a run whose input or target is no probability."""
    places = load_run(job, begin, n, scratch, zero)  # gradients may have taken its place
    for i in range(n):
        p = load_one(places.input + i * width(zero), zero)
        if not 0.0 <= p <= 1.0:
            return INPUT_NOT_PROBABILITY, begin + i
        t = load_one(places.target + i * width(zero), zero)
        if not 0.0 <= t <= 1.0:
            return TARGET_NOT_PROBABILITY, begin + i
    # Shared memory has changed since; the run's gradients are not written, so it must fail.
    return INPUT_NOT_PROBABILITY, begin


@inlined
def store_run(job: Any, begin: int, n: int, places: RunPlaces, scratch: int, zero: Any) -> None:
    """Losses (or an activation) and gradients that are in scratch, to the answers."""
    stage = scratch + STAGED
    if job.values and places.loss == scratch + LOSS:
        dtype = job.values_dtype
        store_block(job.values + begin * size_of(dtype), scratch + LOSS, n, dtype, zero, stage)
    if job.input_gradient and places.input_gradient == scratch + INPUT:
        dtype = job.input_gradient_dtype
        store_block(job.input_gradient + begin * size_of(dtype), scratch + INPUT, n, dtype, zero, stage)
    if job.target_gradient and places.target_gradient == scratch + TARGET:
        dtype = job.target_gradient_dtype
        store_block(job.target_gradient + begin * size_of(dtype), scratch + TARGET, n, dtype, zero, stage)


@device_function
def compute_chunk(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[float, int, int]:
    """(sum of losses, fault, index) of elements begin … end − 1."""
    chunk_sum = 0.0
    for first in range(begin, end, BLOCK):
        n = min(BLOCK, end - first)
        places = load_run(job, first, n, scratch, zero)
        run_sum, bad = compute_run(job, n, places, scratch, zero)
        if bad:
            fault, index = first_outside(job, first, n, scratch, zero)
            return 0.0, fault, index
        store_run(job, first, n, places, scratch, zero)
        chunk_sum += run_sum
    return chunk_sum, -1, 0


@inlined
def element_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """Chunks begin … end − 1 of a job, until one has a fault: (fault, index)."""
    elements = job.outer * job.classes
    chunk_elements = max(1, (BLOCK + job.classes - 1) // job.classes) * job.classes
    for chunk in range(begin, end):
        first = chunk * chunk_elements
        last = min(first + chunk_elements, elements)
        chunk_sum, fault, index = compute_chunk(job, first, last, scratch, zero)
        if fault >= 0:
            return fault, index
        if job.chunk_sums:
            store_one(job.chunk_sums + 8 * chunk, chunk_sum)
    return -1, 0


@njit
def map_elements(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """The elementwise family: see `for_each_piece`. A piece is whole chunks."""
    for_each_piece(element_piece, jobs, pieces, counter, scratch, zero)

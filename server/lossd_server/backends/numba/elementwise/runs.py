"""The elementwise family: chunks of whole items, in runs of 4,096 elements in C order.

A chunk's losses are summed in the lanes, group by group, widened to float64, by a fixed tree: what is added to what
depends on the item's size alone, not on how a request was cut or batched.
"""

from __future__ import annotations

from typing import Any

from lossd.contract import MAX_RANK
from lossd_server.backends.numba.batch_table import (
    INPUT_NOT_PROBABILITY,
    TARGET_NOT_PROBABILITY,
)
from lossd_server.backends.numba.elementwise.formulas import element, outside, padding
from lossd_server.backends.numba.layout.blocks import BLOCK, PITCH, fill, load_block, steps_of, store_block
from lossd_server.backends.numba.simd.memory import cast, load, load_one, next_piece, size_of, store, store_one
from lossd_server.backends.numba.simd.operations import any_of, splat, total, widen_sum, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import GROUP, times
from lossd_server.backends.numba.softmax.row_state import STAGED
from lossd_server.jobs.jit import device_function, inlined, njit

# Scratch rows of a run; the gradients and losses take the places of what they were made from.
INPUT, TARGET, WEIGHT, POSITIVE, UPSTREAM = (PITCH * i for i in range(5))
LOSS = 5 * PITCH


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
    fill(to, n, steps_of(n, width(zero)) * (BYTES // width(zero)), zero)


@device_function
def load_run(job: Any, begin: int, n: int, scratch: int, zero: Any) -> None:
    """Lays a run's operands in scratch, padded so that the padding adds nothing."""
    stage = scratch + STAGED
    pad, target_pad = padding(job)
    at, dtype = job.input, job.input_dtype
    load_block(scratch + INPUT, at + begin * size_of(dtype), n, dtype, cast(pad, zero), stage)
    if job.target:
        at, dtype = job.target, job.target_dtype
        load_block(scratch + TARGET, at + begin * size_of(dtype), n, dtype, cast(target_pad, zero), stage)
    if job.weight:
        load_view(scratch + WEIGHT, job.weight, job.weight_dtype, job.shape, job.weight_strides, begin, n, zero, stage)
    if job.pos_weight:
        load_view(
            scratch + POSITIVE,
            job.pos_weight,
            job.pos_weight_dtype,
            job.shape,
            job.pos_weight_strides,
            begin,
            n,
            zero,
            stage,
        )
    if job.upstream:
        load_view(
            scratch + UPSTREAM, job.upstream, job.upstream_dtype, job.shape, job.upstream_strides, begin, n, zero, stage
        )


@inlined
def first_outside(begin: int, n: int, scratch: int, zero: Any) -> tuple[int, int]:
    """(fault, index) of the first element of a run whose input or target is no probability."""
    for i in range(n):
        p = load_one(scratch + INPUT + i * width(zero), zero)
        if not 0.0 <= p <= 1.0:
            return INPUT_NOT_PROBABILITY, begin + i
        t = load_one(scratch + TARGET + i * width(zero), zero)
        if not 0.0 <= t <= 1.0:
            return TARGET_NOT_PROBABILITY, begin + i
    return -1, 0


@inlined
def do_run(job: Any, begin: int, n: int, scratch: int, zero: Any) -> tuple[float, int, int]:
    """(sum of losses, fault, index) of a run; losses (or an activation) and gradients go to the answers."""
    load_run(job, begin, n, scratch, zero)
    steps = steps_of(n, width(zero))
    one = cast(1.0, zero)
    scale = splat(cast(job.scale, zero))
    gradient = job.input_gradient != 0 or job.target_gradient != 0
    wide = widen_sum(splat(zero))
    bad = False
    for group in range(0, steps, GROUP):
        narrow = splat(zero)
        for j in range(group, min(group + GROUP, steps)):
            lies = scratch + j * BYTES
            x = load(lies + INPUT, zero)
            t = load(lies + TARGET, zero) if job.target else splat(zero)
            positive = load(lies + POSITIVE, zero) if job.pos_weight else splat(one)
            bad = bad or any_of(outside(job, x, t))
            loss, slope, target_slope = element(job, x, t, positive)
            factor = scale
            if job.weight:
                w = load(lies + WEIGHT, zero)
                loss = times(w, loss)
                factor = factor * w
            if gradient:
                if job.upstream:
                    factor = factor * load(lies + UPSTREAM, zero)
                store(lies + INPUT, times(factor, slope))
                store(lies + TARGET, times(factor, target_slope))
            store(lies + LOSS, loss)
            narrow = narrow + loss
        wide = wide + widen_sum(narrow)
    stage = scratch + STAGED
    if bad:
        load_run(job, begin, n, scratch, zero)
        fault, index = first_outside(begin, n, scratch, zero)
        if fault < 0:  # shared memory has changed since; the run's gradients are not written, so it must fail
            return 0.0, INPUT_NOT_PROBABILITY, begin
        return 0.0, fault, index
    if job.values:
        dtype = job.values_dtype
        store_block(job.values + begin * size_of(dtype), scratch + LOSS, n, dtype, zero, stage)
    if job.input_gradient:
        dtype = job.input_gradient_dtype
        store_block(job.input_gradient + begin * size_of(dtype), scratch + INPUT, n, dtype, zero, stage)
    if job.target_gradient:
        dtype = job.target_gradient_dtype
        store_block(job.target_gradient + begin * size_of(dtype), scratch + TARGET, n, dtype, zero, stage)
    return total(wide), -1, 0


@njit
def map_elements(jobs: Any, pieces: Any, counter: int, scratch: int, states: Any, zero: Any) -> None:
    """Takes pieces, whole chunks, of elementwise jobs until none is left: as `softmax_rows`."""
    while True:
        i = next_piece(counter)
        if i >= pieces.shape[0]:
            return
        piece = pieces[i]
        job = jobs[piece.job]
        elements = job.outer * job.classes
        chunk_elements = max(1, (BLOCK + job.classes - 1) // job.classes) * job.classes
        for chunk in range(piece.begin, piece.end):
            if piece.fault >= 0:
                break
            end = min((chunk + 1) * chunk_elements, elements)
            chunk_sum = 0.0
            for begin in range(chunk * chunk_elements, end, BLOCK):
                run_sum, fault, index = do_run(job, begin, min(BLOCK, end - begin), scratch, zero)
                if fault >= 0:
                    piece.fault = fault
                    piece.fault_index = index
                    break
                chunk_sum += run_sum
            if job.chunk_sums:
                store_one(job.chunk_sums + 8 * chunk, chunk_sum)

"""One loss an element, without weights: runs of 4,096 elements of one formula and dtype, read and written once.

A run begins where it does in the whole, at a multiple of 4,096 from its chunk's first element, so its sum has the same
bits in any part of the job.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    BCE,
    BCE_WITH_LOGITS,
    CHUNK,
    FAULTS,
    INPUT_GRADIENT,
    KL,
    NO_FAULT,
    RUN_SUMS,
    RUNS,
    SCALE_BITS,
    TARGET,
    TARGET_GRADIENT,
    VALUES,
)
from lossd_server.backends.triton.kernels.formulas import element_loss, invalid_elements
from lossd_server.backends.triton.kernels.register_tile import load_tile, load_work_item, padded_length, store_tile
from lossd_server.backends.triton.kernels.typed_memory import load_number


@triton.jit(do_not_specialize=["item", "work"])
def elementwise_in_registers_kernel(
    words: tl.tensor,
    out: tl.tensor,
    item: tl.tensor,
    work: tl.tensor,
    FORMULA: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
    VALUE_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr,
    RUN: tl.constexpr,
) -> None:
    """One program: one run of one chunk of one job. VALUE_DTYPE: of losses kept, or of an activation."""
    number = item + tl.program_id(0)
    job, tile, start, count, _ = load_work_item(words, number, work)
    base = words.to(tl.pointer_type(tl.uint8))
    results = out.to(tl.pointer_type(tl.uint8))
    at = tl.arange(0, RUN)
    mask = at < padded_length(count, VECTOR)
    inside = at < count
    x = load_tile(base, start, at, mask, DTYPE)
    runs = tl.load(job + RUNS)
    first = tile // runs * tl.load(job + CHUNK) + tile % runs * RUN
    t = x
    if (FORMULA == BCE) | (FORMULA == BCE_WITH_LOGITS) | (FORMULA == KL):
        t = load_tile(
            base, tl.load(job + TARGET) + first * (TARGET_DTYPE.primitive_bitwidth // 8), at, mask, TARGET_DTYPE
        )
    fault = out + FAULTS * number
    tl.store(fault + 2, NO_FAULT)
    if FORMULA == BCE:
        bad_input, bad_target = invalid_elements(FORMULA, x, t)
        tl.store(fault, tl.min(tl.where(inside & bad_input, first + at, NO_FAULT), 0))
        tl.store(fault + 1, tl.min(tl.where(inside & bad_target, first + at, NO_FAULT), 0))
    else:
        tl.store(fault, NO_FAULT)
        tl.store(fault + 1, NO_FAULT)
    value, dx, dt = element_loss(job, FORMULA, x, t, x, tl.float32, False)
    run_sums = tl.load(job + RUN_SUMS)
    if run_sums >= 0:
        sums = (results + run_sums).to(tl.pointer_type(tl.float64))
        tl.store(sums + tile, tl.sum(tl.where(inside, value, 0.0).to(tl.float64), 0))
    values = tl.load(job + VALUES)
    if values >= 0:
        store_tile(results, values + first * (VALUE_DTYPE.primitive_bitwidth // 8), at, mask, value, VALUE_DTYPE)
    scale = load_number(job + SCALE_BITS).to(tl.float32)
    dx_offset = tl.load(job + INPUT_GRADIENT)
    if dx_offset >= 0:
        dx = tl.where((tl.zeros_like(dx) + scale == 0) & (dx == dx), 0.0, scale * dx)
        store_tile(results, dx_offset + first * (DTYPE.primitive_bitwidth // 8), at, mask, dx, DTYPE)
    dt_offset = tl.load(job + TARGET_GRADIENT)
    if dt_offset >= 0:
        dt = tl.where((tl.zeros_like(dt) + scale == 0) & (dt == dt), 0.0, scale * dt)
        store_tile(results, dt_offset + first * (TARGET_DTYPE.primitive_bitwidth // 8), at, mask, dt, TARGET_DTYPE)

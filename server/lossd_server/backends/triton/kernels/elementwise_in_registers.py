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
    INPUT_GRADIENT,
    KL,
    NO_FAULT,
    RUNS,
    SCALE_BITS,
    TARGET,
    TARGET_GRADIENT,
    VALUES,
)
from lossd_server.backends.triton.kernels.elementwise_epilogue import store_run_sum, store_tile_gradient
from lossd_server.backends.triton.kernels.formulas import element_loss, invalid_elements
from lossd_server.backends.triton.kernels.register_tile import load_tile, padded_length, store_tile
from lossd_server.backends.triton.kernels.typed_memory import load_number
from lossd_server.backends.triton.kernels.work_item import WorkItem, load_extent, load_work_item, store_faults


@triton.jit
def store_invalid_elements(
    item: WorkItem,
    x: tl.tensor,
    t: tl.tensor,
    index: tl.tensor,
    inside: tl.tensor,
    FORMULA: tl.constexpr,
) -> None:
    """Writes the first elements that are no probabilities: of BCE, the only formula that refuses any."""
    if FORMULA == BCE:
        bad_input, bad_target = invalid_elements(FORMULA, x, t)
        first_input = tl.min(tl.where(inside & bad_input, index, NO_FAULT), 0)
        first_target = tl.min(tl.where(inside & bad_target, index, NO_FAULT), 0)
        store_faults(item, first_input, first_target, NO_FAULT)
    else:
        store_faults(item, NO_FAULT, NO_FAULT, NO_FAULT)


@triton.jit(do_not_specialize=["first_item", "work_list"])
def elementwise_in_registers_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    FORMULA: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
    VALUE_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr,
    RUN: tl.constexpr,
) -> None:
    """One program: one run of one chunk of one job. VALUE_DTYPE: of losses kept, or of an activation."""
    item = load_work_item(words, out, first_item, work_list)
    extent = load_extent(words, first_item, work_list)
    at = tl.arange(0, RUN)
    mask = at < padded_length(extent.count, VECTOR)
    inside = at < extent.count
    x = load_tile(item.operands, extent.start, at, mask, DTYPE)
    runs = tl.load(item.job + RUNS)
    first = item.tile // runs * tl.load(item.job + CHUNK) + item.tile % runs * RUN
    t = x
    if (FORMULA == BCE) | (FORMULA == BCE_WITH_LOGITS) | (FORMULA == KL):
        start = tl.load(item.job + TARGET) + first * (TARGET_DTYPE.primitive_bitwidth // 8)
        t = load_tile(item.operands, start, at, mask, TARGET_DTYPE)
    store_invalid_elements(item, x, t, first + at, inside, FORMULA)
    value, dx, dt = element_loss(item, FORMULA, x, t, x, tl.float32, False)
    store_run_sum(item, value, inside)
    values = tl.load(item.job + VALUES)
    if values >= 0:
        start = values + first * (VALUE_DTYPE.primitive_bitwidth // 8)
        store_tile(item.results, start, at, mask, value, VALUE_DTYPE)
    scale = load_number(item, SCALE_BITS).to(tl.float32)
    store_tile_gradient(item, INPUT_GRADIENT, first, at, mask, scale, dx, DTYPE)
    store_tile_gradient(item, TARGET_GRADIENT, first, at, mask, scale, dt, TARGET_DTYPE)

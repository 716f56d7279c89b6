"""What a run of elements writes beside its losses: their sum, gradients. Device functions."""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    INPUT_GRADIENT,
    RUN_SUMS,
    SCALE_BITS,
    TARGET_GRADIENT,
    UPSTREAM,
)
from lossd_server.backends.triton.kernels.arithmetic import times
from lossd_server.backends.triton.kernels.register_tile import store_tile
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_view, store
from lossd_server.backends.triton.kernels.work_item import WorkItem


@triton.jit
def store_run_sum(item: WorkItem, value: tl.tensor, inside: tl.tensor) -> None:
    """Writes the sum of a run's losses in float64, where sums are wanted. inside: elements that exist."""
    run_sums = tl.load(item.job + RUN_SUMS)
    if run_sums >= 0:
        sums = (item.results + run_sums).to(tl.pointer_type(tl.float64))
        tl.store(sums + item.tile, tl.sum(tl.where(inside, value, 0.0).to(tl.float64), 0))


@triton.jit
def store_gradients(
    item: WorkItem,
    index: tl.tensor,
    mask: tl.tensor,
    w: tl.tensor,
    dx: tl.tensor,
    dt: tl.tensor,
    COMPUTE: tl.constexpr,
) -> None:
    """Writes the gradients that are wanted: scale · upstream · w times d/d input and d/d target."""
    input_wanted = tl.load(item.job + INPUT_GRADIENT) >= 0
    target_wanted = tl.load(item.job + TARGET_GRADIENT) >= 0
    if input_wanted | target_wanted:
        upstream = load_view(item, UPSTREAM, index, mask, COMPUTE)
        scale = times(times(load_number(item, SCALE_BITS).to(COMPUTE), upstream), w)
        if input_wanted:
            store(item, INPUT_GRADIENT, index, mask, times(scale, dx))
        if target_wanted:
            store(item, TARGET_GRADIENT, index, mask, times(scale, dt))


@triton.jit
def store_tile_gradient(
    item: WorkItem,
    WORD: tl.constexpr,
    first: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    scale: tl.tensor,
    slope: tl.tensor,
    DTYPE: tl.constexpr,
) -> None:
    """Writes scale · slope at entries first + at of the gradient at WORD, where it is wanted. float32."""
    offset = tl.load(item.job + WORD)
    if offset >= 0:
        gradient = times(tl.zeros_like(slope) + scale, slope)
        store_tile(item.results, offset + first * (DTYPE.primitive_bitwidth // 8), at, mask, gradient, DTYPE)

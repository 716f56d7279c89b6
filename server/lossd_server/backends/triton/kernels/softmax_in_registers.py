"""Rows with a softmax that fit in registers: read once, one exponential an element, the gradient written once.

The formulas are in softmax_prologue.py and softmax_epilogue.py. How a row is computed depends on (formula, C, dtypes)
alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import CROSS_ENTROPY_INDEX, ENTROPY_LOGITS
from lossd_server.backends.triton.kernels.register_tile import padded_length, row_max, tile_of_rows
from lossd_server.backends.triton.kernels.softmax_epilogue import store_tile_results
from lossd_server.backends.triton.kernels.softmax_prologue import (
    load_picked_class,
    load_softmax_tile,
    tile_argmax,
    tile_sums,
    with_picked_class,
)
from lossd_server.backends.triton.kernels.work_item import load_extent, load_work_item


@triton.jit(do_not_specialize=["first_item", "work_list"])
def softmax_in_registers_kernel(
    words: tl.tensor,
    out: tl.tensor,
    first_item: tl.tensor,
    work_list: tl.tensor,
    FORMULA: tl.constexpr,
    SOFT_LABELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
    VECTOR: tl.constexpr,
    PADDED: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
) -> None:
    """One program: TILE rows of one job, of up to BLOCK classes.

    SOFT_LABELS: every class has a weight in the loss, not the row's own alone. OUTPUTS: by-products are wanted.
    STEP: entries of a row that one instruction takes. Other arguments as of `softmax_general_kernel`.
    """
    item = load_work_item(words, out, first_item, work_list)
    extent = load_extent(words, first_item, work_list)
    tile = tile_of_rows(item, extent, VECTOR, TILE, BLOCK, STEP)
    r = tl.arange(0, TILE)
    rows, x, u = load_softmax_tile(
        item, extent, tile, item.tile * TILE + r, r < extent.count, FORMULA, SOFT_LABELS, DTYPE, TARGET_DTYPE, PADDED
    )
    PICKED: tl.constexpr = not SOFT_LABELS and FORMULA == CROSS_ENTROPY_INDEX
    m = row_max(x)
    x_y = m
    u_y = m
    if PICKED:
        start = r * padded_length(extent.classes, VECTOR)
        x_y, u_y = load_picked_class(item, rows, extent.start, start, rows.live, DTYPE)
    best = tl.full([TILE], -1, tl.int32)
    if OUTPUTS:
        best = tile_argmax(x, m, tile.c)
    e, sums = tile_sums(x, m, u, SOFT_LABELS, OUTPUTS or FORMULA == ENTROPY_LOGITS)
    if PICKED:
        sums = with_picked_class(sums, x_y, u_y)
    store_tile_results(item, rows, tile, x, e, u, x_y, sums, best, FORMULA, SOFT_LABELS, OUTPUTS, DTYPE, TARGET_DTYPE)

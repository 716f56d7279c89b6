"""Long rows with a softmax, split into blocks of BLOCK classes: a block is a program's, in registers.

Two launches. The first writes each block's sums, relative to the block's own maximum. The second adds them up for the
row, in the order of its blocks, each times exp(m_j − m), and reads the block again (from L2 where the rows of a launch
fit there) for the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    BLOCK_SUMS,
    CROSS_ENTROPY_INDEX,
    ENTROPY_LOGITS,
    ROW_BLOCKS,
    SUMS_PER_BLOCK,
)
from lossd_server.backends.triton.kernels.arithmetic import exp_nonpositive
from lossd_server.backends.triton.kernels.register_tile import row_max, rowwise, tile_of_block
from lossd_server.backends.triton.kernels.softmax_epilogue import store_tile_results
from lossd_server.backends.triton.kernels.softmax_prologue import (
    NO_CLASS,
    RowSums,
    load_picked_class,
    load_softmax_tile,
    tile_argmax,
    tile_sums,
    with_picked_class,
)
from lossd_server.backends.triton.kernels.work_item import WorkItem, load_extent, load_work_item

COMBINED = tl.constexpr(64)  # blocks whose sums are added up at a time


class BlockOfRow(NamedTuple):
    """Which block of which row a work item is: numbers."""

    row: tl.tensor
    number: tl.tensor  # of the block in its row
    count: tl.tensor  # blocks of the row
    begin: tl.tensor  # its first class
    sums: tl.tensor  # pointer to the sums of the row's first block: float32


@triton.jit
def locate_block(item: WorkItem, BLOCK: tl.constexpr) -> BlockOfRow:
    """The work item's block."""
    count = tl.load(item.job + ROW_BLOCKS)
    row = item.tile // count
    number = item.tile % count
    sums = (item.results + tl.load(item.job + BLOCK_SUMS)).to(tl.pointer_type(tl.float32))
    return BlockOfRow(
        row=row, number=number, count=count, begin=number * BLOCK, sums=sums + row * count * SUMS_PER_BLOCK
    )


@triton.jit
def store_block_sums(block: BlockOfRow, sums: RowSums) -> None:
    """Writes a block's sums, for `load_column`."""
    own = block.sums + block.number * SUMS_PER_BLOCK + tl.arange(0, 1)
    tl.store(own, sums.m)
    tl.store(own + 1, sums.rest)
    tl.store(own + 2, sums.ties)
    tl.store(own + 3, sums.gaps)
    tl.store(own + 4, sums.total)
    tl.store(own + 5, sums.others)
    tl.store(own + 6, sums.curve)


@triton.jit
def load_column(block: BlockOfRow, begin: tl.tensor, number: tl.constexpr, other: tl.constexpr) -> tl.tensor:
    """Number `number` of the row's blocks from block `begin` on: [1, COMBINED]."""
    j = begin + tl.arange(0, COMBINED)[None, :]
    return tl.load(block.sums + j * SUMS_PER_BLOCK + number, mask=j < block.count, other=other)


@triton.jit
def combine_blocks(block: BlockOfRow) -> tuple[RowSums, tl.tensor]:
    """The row's sums, and its argmax as of `tile_argmax`: [1] each."""
    zeros = tl.zeros([1, COMBINED], tl.float32)
    largest = zeros + float("-inf")
    for begin in range(0, block.count, COMBINED):
        largest = tl.maximum(largest, load_column(block, begin, 0, float("-inf")))
    m = tl.max(largest, 1)
    rest = zeros
    ties = zeros
    gaps = zeros
    total = zeros
    others = zeros
    curve = zeros
    first = tl.full([1, COMBINED], NO_CLASS, tl.int32)
    for begin in range(0, block.count, COMBINED):
        m_j = load_column(block, begin, 0, float("-inf"))
        rest_j = load_column(block, begin, 1, 0.0)
        ties_j = load_column(block, begin, 2, 0.0)
        u_j = load_column(block, begin, 4, 0.0)
        top = m_j == m[:, None]
        below = tl.where(top, 0.0, m[:, None] - m_j)
        shrink = exp_nonpositive(-below)
        e_j = tl.where(top, rest_j, (rest_j + ties_j) * shrink)
        rest += e_j
        ties += tl.where(top, ties_j, 0.0)
        gaps += load_column(block, begin, 3, 0.0) + tl.where((u_j == 0) | (below == 0), 0.0, u_j * below)
        total += u_j
        others += tl.where(top, load_column(block, begin, 5, 0.0), u_j)
        curve_j = load_column(block, begin, 6, 0.0) * shrink
        curve += curve_j + tl.where(e_j == 0, 0.0, tl.where(top, 0.0, e_j * below))
        first_j = load_column(block, begin, 7, float("inf")).to(tl.int32, bitcast=True)
        first = tl.minimum(first, tl.where(top | (first_j < 0), first_j, NO_CLASS))
    sums = RowSums(
        m=m,
        rest=tl.sum(rest, 1),
        ties=tl.sum(ties, 1),
        gaps=tl.sum(gaps, 1),
        total=tl.sum(total, 1),
        others=tl.sum(others, 1),
        curve=tl.sum(curve, 1),
    )
    return sums, tl.min(first, 1)


@triton.jit(do_not_specialize=["first_item", "work_list"])
def split_rows_sums_kernel(
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
    BLOCK: tl.constexpr,
) -> None:
    """One program: the sums of one block of one row. Arguments as of `softmax_in_registers_kernel`."""
    item = load_work_item(words, out, first_item, work_list)
    extent = load_extent(words, first_item, work_list)
    block = locate_block(item, BLOCK)
    tile = tile_of_block(extent, block.row, block.begin, VECTOR, BLOCK)
    row = block.row + tl.arange(0, 1).to(tl.int64)
    _, x, u = load_softmax_tile(item, extent, tile, row, row >= 0, FORMULA, SOFT_LABELS, DTYPE, TARGET_DTYPE, PADDED)
    m = row_max(x)
    _, sums = tile_sums(x, m, u, SOFT_LABELS, OUTPUTS or FORMULA == ENTROPY_LOGITS)
    store_block_sums(block, sums)
    if OUTPUTS:
        best = tile_argmax(x, m, tile.c).to(tl.float32, bitcast=True)
        tl.store(block.sums + block.number * SUMS_PER_BLOCK + 7 + tl.arange(0, 1), best)


@triton.jit(do_not_specialize=["first_item", "work_list"])
def split_rows_outputs_kernel(
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
    BLOCK: tl.constexpr,
) -> None:
    """One program: what one block of one row gives, once all blocks' sums are written; the first one's writes what
    there is one of a row.
    """
    item = load_work_item(words, out, first_item, work_list)
    extent = load_extent(words, first_item, work_list)
    block = locate_block(item, BLOCK)
    tile = tile_of_block(extent, block.row, block.begin, VECTOR, BLOCK)
    row = block.row + tl.arange(0, 1).to(tl.int64)
    rows, x, u = load_softmax_tile(
        item, extent, tile, row, (row >= 0) & (block.number == 0), FORMULA, SOFT_LABELS, DTYPE, TARGET_DTYPE, PADDED
    )
    sums, best = combine_blocks(block)
    x_y = sums.m
    if not SOFT_LABELS and FORMULA == CROSS_ENTROPY_INDEX:
        row_start = extent.start - block.begin * (DTYPE.primitive_bitwidth // 8)
        x_y, u_y = load_picked_class(item, rows, row_start, tl.zeros([1], tl.int64), row >= 0, DTYPE)
        sums = with_picked_class(sums, x_y, u_y)
    e = exp_nonpositive(x - rowwise(sums.m))
    store_tile_results(item, rows, tile, x, e, u, x_y, sums, best, FORMULA, SOFT_LABELS, OUTPUTS, DTYPE, TARGET_DTYPE)

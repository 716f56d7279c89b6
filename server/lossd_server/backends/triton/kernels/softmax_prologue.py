"""What a tile of rows in registers begins with: logits, labels, weights of classes, sums. Device functions.

With m the row's maximum, e_c = exp(x_c − m), rest their sum with one of the maxima left out, d = 1 + rest:
−log p_c = (m − x_c) + log1p(rest), two terms ≥ 0. u_c is what the row's loss holds of −log p_c.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASS_WEIGHT,
    CROSS_ENTROPY_DISTRIBUTION,
    KEEP_BITS,
    NO_FAULT,
    SMOOTH_BITS,
    TARGET,
)
from lossd_server.backends.triton.kernels.arithmetic import exp_nonpositive
from lossd_server.backends.triton.kernels.register_tile import (
    Tile,
    load_logits_tile,
    load_tile,
    row_sum,
    rowwise,
    tile_pointers,
)
from lossd_server.backends.triton.kernels.row_access import Rows, load_rows
from lossd_server.backends.triton.kernels.typed_memory import load_number
from lossd_server.backends.triton.kernels.work_item import Extent, WorkItem, store_faults

NO_CLASS = tl.constexpr(2147483647)  # larger than any class


class RowSums(NamedTuple):
    """A row's maximum m, and sums over its entries (or over a block's, with the block's maximum): [TILE] each."""

    m: tl.tensor
    rest: tl.tensor  # Σ e below m
    ties: tl.tensor  # entries equal to m
    gaps: tl.tensor  # Σ u·(m − x)
    total: tl.tensor  # Σ u
    others: tl.tensor  # Σ u below m
    curve: tl.tensor  # Σ e·(m − x)


@triton.jit
def load_softmax_tile(
    item: WorkItem,
    extent: Extent,
    tile: Tile,
    row: tl.tensor,
    live: tl.tensor,
    FORMULA: tl.constexpr,
    SOFT_LABELS: tl.constexpr,
    DTYPE: tl.constexpr,
    TARGET_DTYPE: tl.constexpr,
    PADDED: tl.constexpr,
) -> tuple[Rows, tl.tensor, tl.tensor]:
    """The tile's rows, its logits x, and u where labels are soft (else x again). Faults are written."""
    x = load_logits_tile(item.operands, extent.start, tile, DTYPE, PADDED)
    rows = load_rows(item, row, live, row.shape[0])
    store_faults(item, tl.min(rows.fault, 0), NO_FAULT, NO_FAULT)
    u = x
    if SOFT_LABELS:
        u = weighted_target_tile(item, rows, tile, FORMULA, TARGET_DTYPE)
    return rows, x, u


@triton.jit
def weighted_target_tile(
    item: WorkItem, rows: Rows, tile: Tile, FORMULA: tl.constexpr, DTYPE: tl.constexpr
) -> tl.tensor:
    """u_c = w_c·t'_c of a cross-entropy, t = [c = y] or the target's: [J, TILE, STEP]."""
    keep = load_number(item, KEEP_BITS).to(tl.float32)
    smooth = load_number(item, SMOOTH_BITS).to(tl.float32)
    # No branches: what one of them gives would not have the tile's layout.
    weights = tl.load(item.job + CLASS_WEIGHT)
    weight_at = (item.operands + tl.maximum(weights, 0)).to(tl.pointer_type(tl.float32)) + tile.c
    w = tl.load(tile_pointers(weight_at, tl.zeros_like(tile.at)), mask=tile.inside & (weights >= 0), other=1.0)
    if FORMULA == CROSS_ENTROPY_DISTRIBUTION:
        start = tl.load(item.job + TARGET) + tile.first * (DTYPE.primitive_bitwidth // 8)
        t = load_tile(item.operands, start, tile.at, tile.mask, DTYPE)
        t = tl.where((tl.zeros_like(t) + keep == 0) & (t == t), 0.0, t)  # 0·t, were t infinite
        u = keep * t + smooth
        u = tl.where(((w == 0) & (u == u)) | ((u == 0) & (w == w)), 0.0, w * u)
    else:  # smoothed: no share is 0
        u = w * (tl.where(tile.c == rowwise(rows.y), keep, 0.0) + smooth)
    return tl.where(tile.inside, u, 0.0)


@triton.jit
def tile_sums(
    x: tl.tensor, m: tl.tensor, u: tl.tensor, SOFT_LABELS: tl.constexpr, CURVED: tl.constexpr
) -> tuple[tl.tensor, RowSums]:
    """e = exp(x − m), m the tile's maximum; and the sums, those with u for SOFT_LABELS, `curve` for CURVED; else 0."""
    base = rowwise(tl.where(m == float("-inf"), 0.0, m))
    e = exp_nonpositive(x - base)
    # 1 and 0 as numbers: e of a maximum is exactly 1, and a select would keep a predicate an element.
    one = tl.where(x == base, 1.0, 0.0)
    ties = row_sum(one)
    rest = row_sum(e - one)
    zero = tl.zeros_like(rest)
    gaps = zero
    total = zero
    others = zero
    curve = zero
    if SOFT_LABELS:
        gap = base - x
        gaps = row_sum(tl.where((u == 0) | (gap == 0), 0.0, u * gap))
        total = row_sum(u)
        others = row_sum(tl.where(x == base, 0.0, u))
    if CURVED:
        curve = row_sum(tl.where(e == 0, 0.0, e * (base - x)))
    return e, RowSums(m=m, rest=rest, ties=ties, gaps=gaps, total=total, others=others, curve=curve)


@triton.jit
def tile_argmax(x: tl.tensor, m: tl.tensor, c: tl.tensor) -> tl.tensor:
    """The first class whose entry is the maximum: [TILE], int32; −1 where one is NaN."""
    first = tl.where(x == rowwise(m), c, NO_CLASS)
    return tl.min(tl.min(tl.where(x == x, first, -1), 0), 1)


@triton.jit
def load_picked_class(
    item: WorkItem, rows: Rows, start: tl.tensor, at: tl.tensor, kept: tl.tensor, DTYPE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """The logit and the weight of each row's class, rows beginning `at` entries after byte `start`: [TILE] each."""
    kept = kept & (rows.dropped == 0) & (rows.y >= 0)
    logits = (item.operands + start).to(tl.pointer_type(DTYPE))
    x_y = tl.load(logits + (at + rows.y), mask=kept, other=0.0).to(tl.float32)
    w = tl.full(rows.y.shape, 1.0, tl.float32)
    offset = tl.load(item.job + CLASS_WEIGHT)
    if offset >= 0:
        w = tl.load((item.operands + offset).to(tl.pointer_type(tl.float32)) + rows.y, mask=kept, other=1.0)
    return x_y, w


@triton.jit
def with_picked_class(sums: RowSums, x_y: tl.tensor, u_y: tl.tensor) -> RowSums:
    """The sums, with those of u where a row's class alone has a weight in its loss."""
    return RowSums(
        m=sums.m,
        rest=sums.rest,
        ties=sums.ties,
        gaps=tl.where((u_y == 0) | (x_y == sums.m), 0.0, u_y * (sums.m - x_y)),
        total=u_y,
        others=sums.others,
        curve=sums.curve,
    )

"""What the kernels of rows share: blocks of classes, labels, weights, a row's maximum. Device functions."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    ARGMAX,
    CLASS_WEIGHT,
    CLASSES,
    CORRECT,
    CROSS_ENTROPY_DISTRIBUTION,
    CROSS_ENTROPY_INDEX,
    CROSS_ENTROPY_KINDS_DISTRIBUTION,
    CROSS_ENTROPY_KINDS_INDEX,
    IGNORE_INDEX,
    INNER,
    KEEP_BITS,
    NLL,
    NO_FAULT,
    PITCH,
    ROW_UPSTREAM,
    ROW_WEIGHT,
    ROWS,
    SCALE_BITS,
    SMOOTH_BITS,
    SOFTCAP_BITS,
    TARGET,
)
from lossd_server.backends.triton.kernels.arithmetic import tanh, times
from lossd_server.backends.triton.kernels.typed_memory import load_number, load_operand, load_per_row
from lossd_server.backends.triton.kernels.work_item import WorkItem


class Rows(NamedTuple):
    """The rows of a tile: [TILE] each."""

    row: tl.tensor  # number in the job
    live: tl.tensor  # whether this program writes what there is one of a row
    y: tl.tensor  # the row's class; −1 where the target is none
    dropped: tl.tensor  # ignored, or of a class out of range
    fault: tl.tensor  # the row's number where its class is out of range, else NO_FAULT


class ClassBlock(NamedTuple):
    """A block of classes of a tile's rows."""

    c: tl.tensor  # classes: [BLOCK]
    index: tl.tensor  # flat indices: [TILE, BLOCK]
    mask: tl.tensor  # which of them exist: [TILE, BLOCK]


class Maximum(NamedTuple):
    """The largest entry of each row: [TILE] each."""

    m: tl.tensor
    a: tl.tensor  # its first class
    invalid: tl.tensor  # the first class whose entry is NaN or too small; NO_FAULT where there is none


@triton.jit
def load_rows(item: WorkItem, row: tl.tensor, live: tl.tensor, TILE: tl.constexpr) -> Rows:
    """The rows' labels, where the formula has them."""
    y = tl.full([TILE], -1, tl.int64)
    dropped = row < 0
    fault = tl.full([TILE], NO_FAULT, tl.int64)
    if (item.formula == CROSS_ENTROPY_INDEX) | (item.formula == CROSS_ENTROPY_KINDS_INDEX) | (item.formula == NLL):
        exists = row < tl.load(item.job + ROWS)
        start = (item.operands + tl.load(item.job + TARGET)).to(tl.pointer_type(tl.int64))
        y = tl.load(start + row, mask=exists, other=0)
        ignored = y == tl.load(item.job + IGNORE_INDEX)
        outside = exists & ((y < 0) | (y >= tl.load(item.job + CLASSES))) & (ignored == 0)
        fault = tl.where(outside, row, fault)
        dropped = ignored | outside
    return Rows(row=row, live=live, y=y, dropped=dropped, fault=fault)


@triton.jit
def load_rows_of_tile(item: WorkItem, TILE: tl.constexpr) -> Rows:
    """The TILE rows of a work item."""
    row = item.tile * TILE + tl.arange(0, TILE)
    return load_rows(item, row, row < tl.load(item.job + ROWS), TILE)


@triton.jit
def class_block(item: WorkItem, row: tl.tensor, begin: tl.tensor, BLOCK: tl.constexpr) -> ClassBlock:
    """Classes from `begin` on."""
    classes = tl.load(item.job + CLASSES)
    inner = tl.load(item.job + INNER)
    c = begin + tl.arange(0, BLOCK).to(tl.int64)
    first = row // inner * tl.load(item.job + PITCH) + row % inner
    mask = (row < tl.load(item.job + ROWS))[:, None] & (c < classes)[None, :]
    return ClassBlock(c=c, index=first[:, None] + (c * inner)[None, :], mask=mask)


@triton.jit
def entry_of_class(item: WorkItem, row: tl.tensor, c: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Flat indices of class c of each row, and which of them exist: [TILE, 1] each."""
    classes = tl.load(item.job + CLASSES)
    inner = tl.load(item.job + INNER)
    index = row // inner * tl.load(item.job + PITCH) + row % inner + c * inner
    return index[:, None], ((row < tl.load(item.job + ROWS)) & (c >= 0) & (c < classes))[:, None]


@triton.jit
def load_logits(item: WorkItem, WORD: tl.constexpr, block: ClassBlock, COMPUTE: tl.constexpr) -> tl.tensor:
    """Entries of an operand, capped where the job has a softcap k: k·tanh(x/k). Only float64 kernels know of caps."""
    x = load_operand(item, WORD, block.index, block.mask, COMPUTE)
    if tl.float64 == COMPUTE:
        cap = load_number(item, SOFTCAP_BITS)
        if cap > 0:
            x = cap * tanh(x / cap, COMPUTE)
    return x


@triton.jit
def row_maximum(
    item: WorkItem,
    WORD: tl.constexpr,
    row: tl.tensor,
    least: tl.tensor,
    COMPUTE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> Maximum:
    """The maximum of each row of an operand. An entry below `least` is invalid."""
    best = tl.full([TILE, BLOCK], float("-inf"), COMPUTE)
    best_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
    invalid_at = tl.full([TILE, BLOCK], NO_FAULT, tl.int64)
    for begin in range(0, tl.load(item.job + CLASSES), BLOCK):
        block = class_block(item, row, begin, BLOCK)
        x = load_logits(item, WORD, block, COMPUTE)
        # NaN is found apart, since a maximum may drop it.
        invalid_at = tl.minimum(invalid_at, tl.where(block.mask & ((x >= least) == 0), block.c[None, :], NO_FAULT))
        better = block.mask & (x > best)
        best_at = tl.where(better, block.c[None, :], best_at)
        best = tl.where(better, x, best)
    m = tl.max(best, 1)
    a = tl.min(tl.where(best == m[:, None], best_at, NO_FAULT), 1)
    # Where nothing is above −inf the first class is the first of equals.
    return Maximum(m=m, a=tl.where(m == float("-inf"), 0, a), invalid=tl.min(invalid_at, 1))


@triton.jit
def class_weight(item: WorkItem, c: tl.tensor, COMPUTE: tl.constexpr) -> tl.tensor:
    """w_c, 1 where there are none: [BLOCK]."""
    w = tl.full(c.shape, 1.0, COMPUTE)
    offset = tl.load(item.job + CLASS_WEIGHT)
    if offset >= 0:
        start = (item.operands + offset).to(tl.pointer_type(COMPUTE))
        w = tl.load(start + c, mask=c < tl.load(item.job + CLASSES), other=1.0)
    return w


@triton.jit
def smoothed_target(item: WorkItem, block: ClassBlock, COMPUTE: tl.constexpr) -> tl.tensor:
    """t' = (1 − ε)·t + ε/C: [TILE, BLOCK]."""
    keep = load_number(item, KEEP_BITS).to(COMPUTE)
    smooth = load_number(item, SMOOTH_BITS).to(COMPUTE)
    return times(keep, load_operand(item, TARGET, block.index, block.mask, COMPUTE)) + smooth


@triton.jit
def weighted_target(item: WorkItem, rows: Rows, block: ClassBlock, COMPUTE: tl.constexpr) -> tl.tensor:
    """u_c = w_c·t'_c of a cross-entropy, t = [c = y] or the target's: [TILE, BLOCK]."""
    w = class_weight(item, block.c, COMPUTE)[None, :]
    if (item.formula == CROSS_ENTROPY_DISTRIBUTION) | (item.formula == CROSS_ENTROPY_KINDS_DISTRIBUTION):
        u = times(w, smoothed_target(item, block, COMPUTE))
    else:
        keep = load_number(item, KEEP_BITS).to(COMPUTE)
        smooth = load_number(item, SMOOTH_BITS).to(COMPUTE)
        u = tl.where(block.c[None, :] == rows.y[:, None], times(keep, w), 0.0)
        if smooth != 0:  # where ε is 0 the weight of no other class counts, whatever it is
            u += smooth * w
    return tl.where(block.mask, u, 0.0)


@triton.jit
def row_factors(item: WorkItem, row: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Each row's weight, and what its gradients are multiplied by: scale · weight · upstream. Float64."""
    exists = row < tl.load(item.job + ROWS)
    weight = load_per_row(item, tl.load(item.job + ROW_WEIGHT), row, exists)
    upstream = load_per_row(item, tl.load(item.job + ROW_UPSTREAM), row, exists)
    return weight, times(load_number(item, SCALE_BITS), times(weight, upstream))


@triton.jit
def store_argmax(item: WorkItem, rows: Rows, best: tl.tensor) -> None:
    """The argmax, and whether it is the row's class, where they are wanted."""
    argmax = tl.load(item.job + ARGMAX)
    if argmax >= 0:
        start = (item.results + argmax).to(tl.pointer_type(tl.int64))
        tl.store(start + rows.row, best.to(tl.int64), mask=rows.live)
    correct = tl.load(item.job + CORRECT)
    if correct >= 0:
        hit = (best == rows.y) & (rows.dropped == 0)
        tl.store(item.results + correct + rows.row, hit.to(tl.uint8), mask=rows.live)

"""A tile of rows held in registers: where it lies, how it is read and written. Device functions.

A tile is [J, TILE, L]: class j·L + l of row r at (j, r, l). L entries are what one instruction takes of a row, by
L/VEC lanes, so a lane holds J vectors of one row and a short row's sums need few of its neighbours. Long rows have
J = 1, and lie over all lanes. Numbers of rows are [TILE].

Rows of up to 64 classes lie dense; longer ones at a pitch of whole 16 bytes, so that every access is 16 bytes wide:
VEC entries, which the compiler is told are aligned. Lanes are classes, wherever a row lies, so its bits do not depend
on its neighbours.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lossd_server.backends.triton.descriptor import (
    CLASS_WEIGHT,
    CROSS_ENTROPY_DISTRIBUTION,
    ITEM,
    KEEP_BITS,
    SMOOTH_BITS,
    TARGET,
    WORDS,
)
from lossd_server.backends.triton.kernels.arithmetic import exp_nonpositive, round_to
from lossd_server.backends.triton.kernels.typed_memory import load_number

NEVER = tl.constexpr(2147483647)  # larger than any class


@triton.jit
def load_work_item(
    words: tl.tensor, number: tl.tensor, work: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Descriptor, tile, byte offset of the tile's first entry, its rows (or entries), classes."""
    entry = words + work + ITEM * number
    packed = tl.load(entry + 3)
    count = (packed >> 32).to(tl.int32)
    classes = (packed & 0xFFFFFFFF).to(tl.int32)
    return words + tl.load(entry) * WORDS, tl.load(entry + 1), tl.load(entry + 2), count, classes


@triton.jit
def rowwise(v: tl.tensor) -> tl.tensor:
    """[TILE] as [1, TILE, 1]."""
    return v[None, :, None]


@triton.jit
def row_sum(x: tl.tensor) -> tl.tensor:
    """Σ over the classes, in a fixed tree: [TILE]."""
    return tl.sum(tl.sum(x, 0), 1)


@triton.jit
def row_max(x: tl.tensor) -> tl.tensor:
    """The maximum over the classes, NaN left out: [TILE]."""
    return tl.max(tl.max(x, 0), 1)


@triton.jit
def tile_indices(TILE: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Classes [J, 1, L], J = BLOCK/L, and rows [TILE]."""
    j = tl.arange(0, BLOCK // STEP) * STEP
    return j[:, None, None] + tl.arange(0, STEP)[None, None, :], tl.arange(0, TILE)


@triton.jit
def padded_length(count: tl.tensor, VECTOR: tl.constexpr) -> tl.tensor:
    """`count` entries up to whole vectors: the pitch of rows of so many."""
    return (count + (VECTOR - 1)) // VECTOR * VECTOR


@triton.jit
def aligned_pointer(base: tl.tensor, offset: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """A pointer to whole 16 bytes."""
    return tl.multiple_of((base + offset).to(tl.pointer_type(DTYPE)), 16)


@triton.jit
def tile_pointers(start: tl.tensor, at: tl.tensor) -> tl.tensor:
    """Pointers to entries `at`. Of a tile of several rows the compiler is told what makes it give the lanes to the
    entries of a row first, then to rows, and leave j to registers: it orders dimensions by how many neighbours follow
    each other in memory (L along a row; 2 rows is not so, and nothing else comes of it).
    """
    if len(at.shape) == 3 and at.shape[1] > 1:
        return tl.max_contiguous(start + at, [1, 2, at.shape[2]])
    else:
        return start + at


@triton.jit
def load_tile(base: tl.tensor, offset: tl.tensor, at: tl.tensor, mask: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """Entries as float32, 0 where masked."""
    return tl.load(tile_pointers(aligned_pointer(base, offset, DTYPE), at), mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_logits(
    base: tl.tensor,
    offset: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    inside: tl.tensor,
    DTYPE: tl.constexpr,
    PADDED: tl.constexpr,
) -> tl.tensor:
    """Entries as float32, −inf outside; `mask` takes whole vectors, of which the last may be PADDED."""
    x = tl.load(tile_pointers(aligned_pointer(base, offset, DTYPE), at), mask=mask, other=float("-inf")).to(tl.float32)
    if PADDED:
        x = tl.where(inside, x, float("-inf"))
    return x


@triton.jit
def store_tile(
    base: tl.tensor, offset: tl.tensor, at: tl.tensor, mask: tl.tensor, value: tl.tensor, DTYPE: tl.constexpr
) -> None:
    """Writes float32 rounded once."""
    tl.store(tile_pointers(aligned_pointer(base, offset, DTYPE), at), round_to(value, DTYPE), mask=mask)


@triton.jit
def weighted_target_tile(
    base: tl.tensor,
    job: tl.tensor,
    y: tl.tensor,
    c: tl.tensor,
    inside: tl.tensor,
    first: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
    FORMULA: tl.constexpr,
    DTYPE: tl.constexpr,
) -> tl.tensor:
    """u_c = w_c·t'_c of a cross-entropy, t = [c = y] or the target's, which begins at entry `first`: [J, TILE, L]."""
    keep = load_number(job + KEEP_BITS).to(tl.float32)
    smooth = load_number(job + SMOOTH_BITS).to(tl.float32)
    # No branches: what one of them gives would not have the tile's layout.
    weights = tl.load(job + CLASS_WEIGHT)
    weight_at = (base + tl.maximum(weights, 0)).to(tl.pointer_type(tl.float32)) + c
    w = tl.load(tile_pointers(weight_at, tl.zeros_like(at)), mask=inside & (weights >= 0), other=1.0)
    if FORMULA == CROSS_ENTROPY_DISTRIBUTION:
        start = tl.load(job + TARGET) + first * (DTYPE.primitive_bitwidth // 8)
        t = load_tile(base, start, at, mask, DTYPE)
        t = tl.where((tl.zeros_like(t) + keep == 0) & (t == t), 0.0, t)  # 0·t, were t infinite
        u = keep * t + smooth
        u = tl.where((w == 0) & (u == u), 0.0, w * u)
    else:
        u = w * (tl.where(c == rowwise(y), keep, 0.0) + smooth)
    return tl.where(inside, u, 0.0)


@triton.jit
def tile_sums(
    x: tl.tensor, m: tl.tensor, u: tl.tensor, SOFT_LABELS: tl.constexpr, CURVED: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """e = exp(x − m): [J, TILE, L], and of each row, with the tile's maximum m: [TILE] each

    Σ e below m · entries equal to m · Σ u·(m − x) · Σ u · Σ u below m · Σ e·(m − x), for CURVED.
    """
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
        gaps = row_sum(tl.where(u == 0, 0.0, u * (base - x)))
        total = row_sum(u)
        others = row_sum(tl.where(x == base, 0.0, u))
    if CURVED:
        curve = row_sum(tl.where(e == 0, 0.0, e * (base - x)))
    return e, rest, ties, gaps, total, others, curve


@triton.jit
def tile_argmax(x: tl.tensor, m: tl.tensor, c: tl.tensor) -> tl.tensor:
    """The first class whose entry is the maximum: [TILE], int32; −1 where one is NaN."""
    first = tl.where(x == rowwise(m), c, NEVER)
    return tl.min(tl.min(tl.where(x == x, first, -1), 0), 1)

"""A tile of rows in registers: where its entries lie, how they are read and written. Device functions.

A tile is [J, TILE, STEP]: class j·STEP + s of row r at (j, r, s). STEP entries are what one instruction takes of a row,
by STEP/VECTOR lanes, so a lane has J vectors of one row, and a short row's sums need few neighbouring lanes. Long rows
have J = 1, and lie over all lanes. What there is one of a row is [TILE].

Rows of up to 64 classes lie dense; longer ones at a pitch of whole 16 bytes, so that every access is 16 bytes wide:
VECTOR entries, which the compiler is told are aligned. Lanes are classes, wherever a row lies, so its bits do not
depend on its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from lossd_server.backends.triton.kernels.arithmetic import round_to
from lossd_server.backends.triton.kernels.work_item import Extent, WorkItem


class Tile(NamedTuple):
    """Where a tile's entries are: [J, TILE, STEP], or what broadcasts to it."""

    c: tl.tensor  # classes
    at: tl.tensor  # numbers of the entries, from the tile's first
    mask: tl.tensor  # whole vectors: the last of a row may be padded
    inside: tl.tensor  # entries that exist
    first: tl.tensor  # number of the tile's first entry in its tensor


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
    """Classes [J, 1, STEP], J = BLOCK/STEP, and rows [TILE]."""
    j = tl.arange(0, BLOCK // STEP) * STEP
    return j[:, None, None] + tl.arange(0, STEP)[None, None, :], tl.arange(0, TILE)


@triton.jit
def padded_length(count: tl.tensor, VECTOR: tl.constexpr) -> tl.tensor:
    """`count` entries up to whole vectors: the pitch of rows of so many."""
    return (count + (VECTOR - 1)) // VECTOR * VECTOR


@triton.jit
def tile_of_rows(
    item: WorkItem,
    extent: Extent,
    VECTOR: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
) -> Tile:
    """TILE whole rows, of up to BLOCK classes."""
    pitch = padded_length(extent.classes, VECTOR)
    c, r = tile_indices(TILE, BLOCK, STEP)
    live = rowwise(r < extent.count)
    return Tile(
        c=c,
        at=rowwise(r) * pitch + c,
        mask=live & (c < pitch),
        inside=live & (c < extent.classes),
        first=item.tile * TILE * pitch,
    )


@triton.jit
def tile_of_block(extent: Extent, row: tl.tensor, begin: tl.tensor, VECTOR: tl.constexpr, BLOCK: tl.constexpr) -> Tile:
    """Classes of one row, from `begin` on, as a tile: [1, 1, BLOCK]."""
    at, _ = tile_indices(1, BLOCK, BLOCK)
    return Tile(
        c=begin.to(tl.int32) + at,
        at=at,
        mask=at < padded_length(extent.count, VECTOR),
        inside=at < extent.count,
        first=row * padded_length(extent.classes, VECTOR) + begin,
    )


@triton.jit
def aligned_pointer(base: tl.tensor, offset: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """A pointer to whole 16 bytes."""
    return tl.multiple_of((base + offset).to(tl.pointer_type(DTYPE)), 16)


@triton.jit
def tile_pointers(start: tl.tensor, at: tl.tensor) -> tl.tensor:
    """Pointers to entries `at`. Of a tile of several rows the compiler is told what makes it give the lanes to the
    entries of a row first, then to rows, and leave j to registers: it orders dimensions by how many neighbours follow
    each other in memory (STEP along a row; 2 rows is not so, and nothing else comes of it).
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
def load_logits_tile(
    base: tl.tensor, offset: tl.tensor, tile: Tile, DTYPE: tl.constexpr, PADDED: tl.constexpr
) -> tl.tensor:
    """Entries as float32, −inf outside. PADDED: the last vector of a row may hold entries that do not exist."""
    pointers = tile_pointers(aligned_pointer(base, offset, DTYPE), tile.at)
    x = tl.load(pointers, mask=tile.mask, other=float("-inf")).to(tl.float32)
    if PADDED:
        x = tl.where(tile.inside, x, float("-inf"))
    return x


@triton.jit
def store_tile(
    base: tl.tensor, offset: tl.tensor, at: tl.tensor, mask: tl.tensor, value: tl.tensor, DTYPE: tl.constexpr
) -> None:
    """Writes float32 rounded once."""
    tl.store(tile_pointers(aligned_pointer(base, offset, DTYPE), at), round_to(value, DTYPE), mask=mask)

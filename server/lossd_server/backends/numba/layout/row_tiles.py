"""Row tiles: one row, or up to sixteen neighbouring rows of a strided layout, brought to scratch and back.

A layout has rows (o, i) with class c at (o·classes + c)·stride + i: for stride = 1 a row is contiguous, otherwise the
entries of neighbouring rows are, and a tile is transposed on its way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd_server.backends.numba.layout.blocks import (
    PITCH,
    STAGE,
    convert_vectors,
    fill,
    load_block,
    store_block,
    store_vectors,
    vector_count,
)
from lossd_server.backends.numba.simd.memory import copy_bytes, load_one, size_of, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function, inlined

TILE = 16  # rows of a strided layout that are computed together


class RowTile(NamedTuple):
    """Rows (outer, inner) … (outer, inner + rows − 1) of a layout; `row` is the index of the first."""

    classes: int
    stride: int
    row: int
    outer: int
    inner: int
    rows: int


@device_function
def tile_at(job: Any, row: int, end: int) -> RowTile:
    """The tile that begins with a row of a job and ends before row `end`."""
    stride = job.inner
    inner = row % stride
    rows = min(TILE, stride - inner, end - row) if stride > 1 else 1
    return RowTile(job.classes, stride, row, row // stride, inner, rows)


@inlined
def for_each_tile(compute: Any, job: Any, begin: int, end: int, scratch: int, zero: Any) -> Any:
    """Computes rows begin … end − 1 of a job by tiles, until one has a fault: (fault, index), as compute(job, tile,
    scratch, zero) gives it.
    """
    row = begin
    while row < end:
        tile = tile_at(job, row, end)
        fault, index = compute(job, tile, scratch, zero)
        if fault >= 0:
            return fault, index
        row += tile.rows
    return -1, 0


@device_function
def entry(tile: RowTile, c: int, r: int) -> int:
    """Index of class c of the tile's row r."""
    return (tile.outer * tile.classes + c) * tile.stride + tile.inner + r


@device_function
def gather(to: int, at: int, n: int, rows: int, stride: int, dtype: int, pad: Any, stage: int) -> None:
    """Transposes n classes of `rows` ≤ 16 neighbouring rows into scratch rows, PITCH apart; classes lie `stride`
    elements apart in memory.
    """
    itemsize = width(pad)
    lanes = BYTES // itemsize
    size = size_of(dtype)
    vectors = (rows + lanes - 1) // lanes
    converted = stage + STAGE // 2
    for c in range(n):
        copy_bytes(stage, at + c * stride * size, rows * size)
        convert_vectors(converted, stage, vectors, dtype, pad)
        for r in range(rows):
            store_one(to + r * PITCH + c * itemsize, load_one(converted + r * itemsize, pad))
    for r in range(rows):
        fill(to + r * PITCH, n, vector_count(n, itemsize) * (BYTES // itemsize), pad)


@device_function
def scatter(to: int, at: int, n: int, rows: int, stride: int, dtype: int, like: Any, stage: int) -> None:
    """The inverse of `gather`: rounds scratch rows to `dtype` and writes them across."""
    itemsize = width(like)
    lanes = BYTES // itemsize
    size = size_of(dtype)
    vectors = (rows + lanes - 1) // lanes
    collected = stage + STAGE // 2
    for c in range(n):
        for r in range(rows):
            store_one(collected + r * itemsize, load_one(at + r * PITCH + c * itemsize, like))
        store_vectors(stage, collected, vectors, dtype, like)
        copy_bytes(to + c * stride * size, stage, rows * size)


@device_function
def load_tile(to: int, at: int, dtype: int, tile: RowTile, begin: int, n: int, pad: Any, stage: int) -> None:
    """Classes begin … begin + n − 1 of a tile's rows to scratch rows, padded with `pad`."""
    first = at + entry(tile, begin, 0) * size_of(dtype)
    if tile.stride == 1:
        load_block(to, first, n, dtype, pad, stage)
    else:
        gather(to, first, n, tile.rows, tile.stride, dtype, pad, stage)


@device_function
def store_tile(to: int, at: int, dtype: int, tile: RowTile, begin: int, n: int, like: Any, stage: int) -> None:
    """Rounds scratch rows to `dtype` and puts them where `load_tile` would find them."""
    first = to + entry(tile, begin, 0) * size_of(dtype)
    if tile.stride == 1:
        store_block(first, at, n, dtype, like, stage)
    else:
        scatter(first, at, n, tile.rows, tile.stride, dtype, like, stage)

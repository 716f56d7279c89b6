"""Tiles: a block of one row, or of up to sixteen neighbouring rows of a strided layout, to scratch and back.

A layout has rows (o, i) with class c at (o·classes + c)·inner + i: for inner = 1 a row is contiguous, otherwise the
entries of neighbouring rows are, and a tile is transposed on its way.
"""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.layout.blocks import (
    PITCH,
    STAGE,
    convert_vectors,
    fill,
    load_block,
    steps_of,
    store_block,
    store_vectors,
)
from lossd_server.backends.numba.simd.memory import copy_bytes, load_one, size_of, store_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function


@device_function
def gather(to: int, at: int, n: int, rows: int, pitch: int, dtype: int, pad: Any, stage: int) -> None:
    """Transposes n classes of `rows` ≤ 16 neighbouring rows into scratch rows, PITCH apart; classes lie `pitch`
    elements apart in memory.
    """
    itemsize = width(pad)
    lanes = BYTES // itemsize
    size = size_of(dtype)
    vectors = (rows + lanes - 1) // lanes
    converted = stage + STAGE // 2
    for c in range(n):
        copy_bytes(stage, at + c * pitch * size, rows * size)
        convert_vectors(converted, stage, vectors, dtype, pad)
        for r in range(rows):
            store_one(to + r * PITCH + c * itemsize, load_one(converted + r * itemsize, pad))
    for r in range(rows):
        fill(to + r * PITCH, n, steps_of(n, itemsize) * (BYTES // itemsize), pad)


@device_function
def scatter(to: int, at: int, n: int, rows: int, pitch: int, dtype: int, like: Any, stage: int) -> None:
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
        copy_bytes(to + c * pitch * size, stage, rows * size)


@device_function
def entry(layout: Any, outer: int, c: int, inner: int) -> int:
    """Index of class c of row (outer, inner)."""
    _, classes, pitch = layout
    return (outer * classes + c) * pitch + inner


@device_function
def load_tile(to: int, at: int, dtype: int, layout: Any, where: Any, begin: int, n: int, pad: Any, stage: int) -> None:
    """Classes begin … begin + n − 1 of a tile's rows, where = (outer, inner, rows), padded with `pad`."""
    outer, inner, rows = where
    first = at + entry(layout, outer, begin, inner) * size_of(dtype)
    if layout[2] == 1:
        load_block(to, first, n, dtype, pad, stage)
    else:
        gather(to, first, n, rows, layout[2], dtype, pad, stage)


@device_function
def store_tile(
    to: int, at: int, dtype: int, layout: Any, where: Any, begin: int, n: int, like: Any, stage: int
) -> None:
    """Rounds a tile to `dtype` and puts it where `load_tile` would find it."""
    outer, inner, rows = where
    first = to + entry(layout, outer, begin, inner) * size_of(dtype)
    if layout[2] == 1:
        store_block(first, at, n, dtype, like, stage)
    else:
        scatter(first, at, n, rows, layout[2], dtype, like, stage)

"""Lane tiles: as many rows as a vector has lanes, their classes as vectors in scratch, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd_server.backends.numba.layout.blocks import dtype_of, load_block, store_block
from lossd_server.backends.numba.simd.memory import (
    load,
    load_apart,
    load_one,
    size_of,
    store,
    store_apart,
    store_one,
)
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.transpose import SIDE_BYTES, transpose_square
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function


class LaneTile(NamedTuple):
    """Rows `row` … row + rows − 1 of a layout of `classes` and `inner`, one a lane."""

    classes: int
    inner: int
    row: int
    rows: int


@device_function
def lane_tile_at(job: Any, row: int, end: int, zero: Any) -> LaneTile:
    """The tile that begins with a row of a job and ends before row `end`: rows whose entries lie together."""
    lanes = BYTES // width(zero)
    inner = job.inner
    rows = min(lanes, end - row)
    if inner > 1:
        # Whole outer indices where they are small, else rows of one outer index.
        rows = min(rows, lanes // inner * inner if inner <= lanes // 2 else inner - row % inner)
    return LaneTile(job.classes, inner, row, rows)


@device_function
def first_entry(tile: LaneTile) -> int:
    """Index of class 0 of the outer index that a tile begins with."""
    return tile.row // tile.inner * tile.classes * tile.inner


@device_function
def load_classes(to: int, at: int, dtype: int, tile: LaneTile, linear: int, zero: Any) -> None:
    """Class c of the tile's rows goes to the vector at `to + c·BYTES`. `linear`: room for the tile and a vector, then a
    stage.
    """
    classes, inner = tile.classes, tile.inner
    size = width(zero)
    lanes = BYTES // size
    stage = linear + lanes * classes * size + BYTES
    first = first_entry(tile)
    if inner > lanes // 2:
        for c in range(classes):
            index = first + c * inner + tile.row % inner
            load_block(to + c * BYTES, at + index * size_of(dtype), tile.rows, dtype, zero, stage)
        return
    direct = dtype == dtype_of(zero) and tile.rows == lanes
    source = at + first * size if direct else linear
    if not direct:
        load_block(linear, at + first * size_of(dtype), tile.rows * classes, dtype, zero, stage)
    if inner > 1:
        for r in range(tile.rows):
            start = source + ((r // inner) * classes * inner + r % inner) * size
            for c in range(classes):
                store_one(to + c * BYTES + r * size, load_one(start + c * inner * size, zero))
        return
    squares = classes * size // SIDE_BYTES
    for c in range(squares):
        for half in range(BYTES // SIDE_BYTES):
            rows_at = source + half * (lanes // 2) * classes * size + c * SIDE_BYTES
            classes_to = to + c * (lanes // 2) * BYTES + half * SIDE_BYTES
            transpose_square(rows_at, classes * size, classes_to, BYTES, zero)
    for c in range(squares * (lanes // 2), classes):
        store(to + c * BYTES, load_apart(source + c * size, classes * size, zero))


@device_function
def store_classes(to: int, at: int, dtype: int, tile: LaneTile, linear: int, zero: Any) -> None:
    """The inverse of `load_classes`, rounding to `dtype`."""
    classes, inner = tile.classes, tile.inner
    size = width(zero)
    lanes = BYTES // size
    stage = linear + lanes * classes * size + BYTES
    first = first_entry(tile)
    if inner > lanes // 2:
        for c in range(classes):
            index = first + c * inner + tile.row % inner
            store_block(to + index * size_of(dtype), at + c * BYTES, tile.rows, dtype, zero, stage)
        return
    direct = dtype == dtype_of(zero) and tile.rows == lanes
    target = to + first * size if direct else linear
    if inner > 1:
        for r in range(tile.rows):
            start = target + ((r // inner) * classes * inner + r % inner) * size
            for c in range(classes):
                store_one(start + c * inner * size, load_one(at + c * BYTES + r * size, zero))
    else:
        squares = classes * size // SIDE_BYTES
        for c in range(squares):
            for half in range(BYTES // SIDE_BYTES):
                classes_at = at + c * (lanes // 2) * BYTES + half * SIDE_BYTES
                rows_to = target + half * (lanes // 2) * classes * size + c * SIDE_BYTES
                transpose_square(classes_at, BYTES, rows_to, classes * size, zero)
        for c in range(squares * (lanes // 2), classes):
            store_apart(target + c * size, classes * size, load(at + c * BYTES, zero))
    if not direct:
        store_block(to + first * size_of(dtype), linear, tile.rows * classes, dtype, zero, stage)

"""A tile of rows, one a lane: its classes as vectors in scratch, and back."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.layout.blocks import load_block, store_block
from lossd_server.backends.numba.simd.memory import (
    FLOAT32,
    FLOAT64,
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


@device_function
def load_classes(to: int, at: int, dtype: int, layout: Any, where: Any, linear: int, zero: Any) -> None:
    """Class c of the tile's rows goes to the vector at `to + c·BYTES`. where = (first row, rows); `linear`: room for
    the tile and a vector, then a stage.
    """
    row, rows = where
    _, classes, inner = layout
    size = width(zero)
    lanes = BYTES // size
    stage = linear + lanes * classes * size + BYTES
    if inner > lanes // 2:
        outer = row // inner
        for c in range(classes):
            entry = (outer * classes + c) * inner + row % inner
            load_block(to + c * BYTES, at + entry * size_of(dtype), rows, dtype, zero, stage)
        return
    first = row // inner * classes * inner
    if dtype == (FLOAT32 if size == 4 else FLOAT64) and rows == lanes:
        source = at + first * size
    else:
        source = linear
        load_block(linear, at + first * size_of(dtype), rows * classes, dtype, zero, stage)
    if inner == 1:
        squares = classes * size // SIDE_BYTES
        for c in range(squares):
            for half in range(BYTES // SIDE_BYTES):
                rows_at = source + half * (lanes // 2) * classes * size + c * SIDE_BYTES
                classes_to = to + c * (lanes // 2) * BYTES + half * SIDE_BYTES
                transpose_square(rows_at, classes * size, classes_to, BYTES, zero)
        for c in range(squares * (lanes // 2), classes):
            store(to + c * BYTES, load_apart(source + c * size, classes * size, zero))
        return
    for r in range(rows):
        lies = source + ((r // inner) * classes * inner + r % inner) * size
        for c in range(classes):
            store_one(to + c * BYTES + r * size, load_one(lies + c * inner * size, zero))


@device_function
def store_classes(to: int, at: int, dtype: int, layout: Any, where: Any, linear: int, zero: Any) -> None:
    """The inverse of `load_classes`, rounding to `dtype`."""
    row, rows = where
    _, classes, inner = layout
    size = width(zero)
    lanes = BYTES // size
    stage = linear + lanes * classes * size + BYTES
    if inner > lanes // 2:
        outer = row // inner
        for c in range(classes):
            entry = (outer * classes + c) * inner + row % inner
            store_block(to + entry * size_of(dtype), at + c * BYTES, rows, dtype, zero, stage)
        return
    first = to + row // inner * classes * inner * size_of(dtype)
    direct = dtype == (FLOAT32 if size == 4 else FLOAT64) and rows == lanes
    target = first if direct else linear
    if inner == 1:
        squares = classes * size // SIDE_BYTES
        for c in range(squares):
            for half in range(BYTES // SIDE_BYTES):
                classes_at = at + c * (lanes // 2) * BYTES + half * SIDE_BYTES
                rows_to = target + half * (lanes // 2) * classes * size + c * SIDE_BYTES
                transpose_square(classes_at, BYTES, rows_to, classes * size, zero)
        for c in range(squares * (lanes // 2), classes):
            store_apart(target + c * size, classes * size, load(at + c * BYTES, zero))
    else:
        for r in range(rows):
            lies = target + ((r // inner) * classes * inner + r % inner) * size
            for c in range(classes):
                store_one(lies + c * inner * size, load_one(at + c * BYTES + r * size, zero))
    if not direct:
        store_block(first, linear, rows * classes, dtype, zero, stage)

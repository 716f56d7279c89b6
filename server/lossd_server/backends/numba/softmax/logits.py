"""Logit loads: a block of classes of a tile of rows, capped and padded, or one class of a row."""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.layout.blocks import (
    PITCH,
    RowBlock,
    dtype_of,
    fill,
    in_scratch,
    load_block,
    vector_count,
)
from lossd_server.backends.numba.layout.row_tiles import RowTile, entry, load_tile
from lossd_server.backends.numba.layout.scratch import EXPONENTIALS, INPUT, SLOPES, STAGED
from lossd_server.backends.numba.simd.memory import cast, load_one, size_of
from lossd_server.backends.numba.simd.operations import width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.softcap import cap
from lossd_server.jobs.jit import device_function


@device_function
def logit(job: Any, tile: RowTile, c: int, r: int, scratch: int, zero: Any) -> float:
    """Class c of the tile's row r."""
    at = job.input + entry(tile, c, r) * size_of(job.input_dtype)
    if job.softcap != 0.0 or job.input_dtype != dtype_of(zero):
        load_block(scratch + EXPONENTIALS, at, 1, job.input_dtype, zero, scratch + STAGED)
        at = scratch + EXPONENTIALS
    if job.softcap != 0.0:
        cap(at, scratch + SLOPES, 1, job.softcap, zero)
    return float(load_one(at, zero))


@device_function
def read_block(job: Any, tile: RowTile, begin: int, n: int, scratch: int, zero: Any) -> RowBlock:
    """Makes classes begin … begin + n − 1 of a tile readable, padded with −∞; the block of its first row."""
    size = width(zero)
    lowest = cast(-math.inf, zero)
    vectors = vector_count(n, size)
    to = scratch + INPUT
    capped = job.softcap != 0.0
    if capped or tile.stride > 1 or job.input_dtype != dtype_of(zero):
        load_tile(to, job.input, job.input_dtype, tile, begin, n, lowest, scratch + STAGED)
        if capped:
            for r in range(tile.rows):
                cap(to + r * PITCH, scratch + SLOPES + r * PITCH, vectors, job.softcap, zero)
                fill(to + r * PITCH, n, vectors * (BYTES // size), lowest)
        return in_scratch(to, vectors)
    body = job.input + entry(tile, begin, 0) * size
    full = n * size // BYTES
    done = full * (BYTES // size)
    if done < n:
        load_block(to, body + full * BYTES, n - done, job.input_dtype, lowest, scratch + STAGED)
    return RowBlock(body, full, to, vectors)

"""Blocks: up to 4,096 consecutive classes of a row (or elements of a run), read and written vector by vector.

A block is read where it lies if it is contiguous and of the compute type, all but a tail shorter than a vector;
everything else is converted (and gathered) into padded scratch first. The arithmetic is the same either way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lossd_server.backends.numba.simd.memory import (
    BFLOAT16,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    copy_bytes,
    load,
    load_as,
    size_of,
    store,
    store_as,
    store_one,
)
from lossd_server.backends.numba.simd.operations import lane_numbers, select, splat, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function

BLOCK = 4096  # elements
PITCH = 8 * BLOCK + 192  # bytes between scratch rows: a row of float64, room for a vector more, another cache set
STAGE = 1024  # bytes for a tail in its own dtype
GROUP = 8  # vectors that are summed in the compute type before widening


class RowBlock(NamedTuple):
    """Where a block's vectors lie: vector j at body + j·BYTES for j < full, else at tail, which is padded scratch."""

    body: int
    full: int
    tail: int
    vectors: int


NO_BLOCK = RowBlock(0, 0, 0, 0)


@device_function
def in_scratch(at: int, vectors: int) -> RowBlock:
    """A block that lies in scratch."""
    return RowBlock(at, vectors, at, vectors)


@device_function
def row_of(block: RowBlock, r: int) -> RowBlock:
    """The block of row r of a tile, from that of its first row. A tile of several rows lies in scratch."""
    return RowBlock(block.body + r * PITCH, block.full, block.tail, block.vectors)


@device_function
def vector_address(block: RowBlock, j: int) -> int:
    """Address of a block's vector."""
    return block.body + BYTES * j if j < block.full else block.tail


@device_function
def vector_count(n: int, itemsize: int) -> int:
    """Vectors that hold n elements."""
    return (n * itemsize + BYTES - 1) // BYTES


@device_function
def dtype_of(like: Any) -> int:
    """The DataType of the compute type."""
    return FLOAT32 if width(like) == 4 else FLOAT64


@device_function
def fill(to: int, begin: int, end: int, value: Any) -> None:
    """Writes `value` at elements begin … end − 1."""
    size = width(value)
    for i in range(end - begin):
        store_one(to + (begin + i) * size, value)


@device_function
def convert_vectors(to: int, at: int, vectors: int, dtype: int, like: Any) -> None:
    """Converts whole vectors from `dtype`. One loop a dtype: nothing is decided inside."""
    lanes = BYTES // width(like)
    if dtype == FLOAT32:
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes * 4, like, FLOAT32))
    elif dtype == BFLOAT16:
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes * 2, like, BFLOAT16))
    elif dtype == FLOAT16:
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes * 2, like, FLOAT16))
    elif dtype == FLOAT8_E4M3FN:
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes, like, FLOAT8_E4M3FN))
    elif dtype == FLOAT8_E5M2:
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes, like, FLOAT8_E5M2))
    elif width(like) == 8:  # float64 is never computed in float32
        for i in range(vectors):
            store(to + i * BYTES, load_as(at + i * lanes * 8, like, FLOAT64))


@device_function
def load_block(to: int, at: int, n: int, dtype: int, pad: Any, stage: int) -> None:
    """Converts n contiguous elements of `dtype` to scratch of `pad`'s type, padded to a whole vector."""
    itemsize = width(pad)
    lanes = BYTES // itemsize
    vectors = n // lanes
    last = to + vectors * BYTES
    left = n - vectors * lanes
    if dtype == dtype_of(pad):
        copy_bytes(to, at, vectors * BYTES)
        if left:
            store(last, splat(pad))
            copy_bytes(last, at + vectors * BYTES, left * itemsize)
        return
    convert_vectors(to, at, vectors, dtype, pad)
    if left:
        size = size_of(dtype)
        copy_bytes(stage, at + vectors * lanes * size, left * size)
        convert_vectors(last, stage, 1, dtype, pad)
        store(last, select(lane_numbers(pad) < left, load(last, pad), splat(pad)))


@device_function
def store_vectors(to: int, at: int, vectors: int, dtype: int, like: Any) -> None:
    """Rounds whole vectors of the compute type to `dtype`."""
    lanes = BYTES // width(like)
    if dtype == FLOAT32:
        for i in range(vectors):
            store_as(to + i * lanes * 4, load(at + i * BYTES, like), FLOAT32)
    elif dtype == BFLOAT16:
        for i in range(vectors):
            store_as(to + i * lanes * 2, load(at + i * BYTES, like), BFLOAT16)
    elif dtype == FLOAT16:
        for i in range(vectors):
            store_as(to + i * lanes * 2, load(at + i * BYTES, like), FLOAT16)
    elif width(like) == 8:
        for i in range(vectors):
            store_as(to + i * lanes * 8, load(at + i * BYTES, like), FLOAT64)


@device_function
def store_block(to: int, at: int, n: int, dtype: int, like: Any, stage: int) -> None:
    """Rounds n elements of scratch to `dtype` and writes them side by side."""
    lanes = BYTES // width(like)
    vectors = n // lanes
    store_vectors(to, at, vectors, dtype, like)
    left = n - vectors * lanes
    if left:
        size = size_of(dtype)
        store_vectors(stage, at + vectors * BYTES, 1, dtype, like)
        copy_bytes(to + vectors * lanes * size, stage, left * size)

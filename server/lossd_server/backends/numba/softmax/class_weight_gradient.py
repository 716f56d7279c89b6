"""Class-weight gradient kernel: Σ over rows, in the order of their index, of factor·t'·(−log p), in float64.

A class is summed by one thread, row after row, onto what is there: the bits depend neither on threads nor on how the
classes are cut, and sums can be carried on. Rows are finished first: their first maximum, ln(1 + rest) and factor are
known. The logits are read again, in float64.
"""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import COUNTS, FINISHED, LOGITS, PROBABILITIES
from lossd_server.backends.numba.layout.blocks import PITCH, load_block, vector_count
from lossd_server.backends.numba.layout.pieces import for_each_piece
from lossd_server.backends.numba.layout.row_tiles import RowTile, load_tile, tile_at
from lossd_server.backends.numba.layout.scratch import EXPONENTIALS, INPUT, MIXED, SLOPES, STAGED
from lossd_server.backends.numba.simd.logarithm import log
from lossd_server.backends.numba.simd.math import log_ratio, product
from lossd_server.backends.numba.simd.memory import FLOAT64, copy_bytes, load, load_one, store
from lossd_server.backends.numba.simd.operations import splat
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.logits import logit
from lossd_server.backends.numba.softmax.softcap import cap
from lossd_server.jobs.jit import device_function, inlined, njit

SUMS = EXPONENTIALS + BYTES  # in scratch, one a class: behind the one logit that is looked up


@device_function
def greatest_logit(job: Any, tile: RowTile, r: int, scratch: int) -> float:
    """The row's maximum, capped; 0 where it is not finite."""
    first = int(load_one(job.finished + 8 * FINISHED * (tile.row + r), 0.0))
    # In shared memory the greatest may have gone before its index was looked for: −1 then.
    first = min(max(first, 0), tile.classes - 1)
    m = logit(job, tile, first, r, scratch, 0.0)
    return m if math.isfinite(m) else 0.0


@device_function
def add_row(job: Any, row: int, x: int, t: int, sums: int, vectors: int, ref: float) -> None:
    """Adds a row's block to the sums of its classes."""
    finished = job.finished + 8 * FINISHED * row
    norm = load_one(finished, 0.0)
    log_rest = load_one(finished + 8, 0.0)
    factor = load_one(finished + 16, 0.0)
    share = splat(1.0 - job.label_smoothing)
    smooth = splat(job.label_smoothing / job.classes)
    factors = splat(factor)
    refs = splat(ref)
    norms = splat(norm)
    zeros = splat(0.0)
    for j in range(vectors):
        value = load(x + j * BYTES, 0.0)
        if job.input_kind == LOGITS:
            nats = (refs - value) + log_rest
        elif job.input_kind == PROBABILITIES:
            nats = 0.0 - log(value)
        elif job.input_kind == COUNTS:
            nats = 0.0 - log_ratio(value, norms, zeros, log(value) - log(norms))
        else:
            nats = 0.0 - value
        mixed = product(load(t + j * BYTES, 0.0), share) + smooth
        store(sums + j * BYTES, load(sums + j * BYTES, 0.0) + product(factors, product(mixed, nats)))


@inlined
def add_tile(job: Any, tile: RowTile, begin: int, n: int, scratch: int) -> None:
    """Adds a tile's classes begin … begin + n − 1 to their sums."""
    stage = scratch + STAGED
    vectors = vector_count(n, 8)
    load_tile(scratch + INPUT, job.input, job.input_dtype, tile, begin, n, 0.0, stage)
    load_tile(scratch + MIXED, job.target, job.target_dtype, tile, begin, n, 0.0, stage)
    for r in range(tile.rows):
        x = scratch + INPUT + r * PITCH
        ref = 0.0
        if job.input_kind == LOGITS:
            ref = greatest_logit(job, tile, r, scratch)
            if job.softcap != 0.0:
                cap(x, scratch + SLOPES, vectors, job.softcap, 0.0)
        add_row(job, tile.row + r, x, scratch + MIXED + r * PITCH, scratch + SUMS, vectors, ref)


@inlined
def class_piece(job: Any, begin: int, end: int, scratch: int, zero: Any) -> tuple[int, int]:
    """All rows of classes begin … end − 1; no value is refused here."""
    n = end - begin
    load_block(scratch + SUMS, job.weight_gradient + 8 * begin, n, FLOAT64, 0.0, scratch + STAGED)
    rows = job.outer * job.inner
    row = 0
    while row < rows:
        tile = tile_at(job, row, rows)
        add_tile(job, tile, begin, n, scratch)
        row += tile.rows
    copy_bytes(job.weight_gradient + 8 * begin, scratch + SUMS, 8 * n)
    return -1, 0


@njit
def sum_classes(jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """The gradient of class weights, once all rows are finished: see `for_each_piece`. A piece: a range of classes."""
    for_each_piece(class_piece, jobs, pieces, counter, scratch, zero)

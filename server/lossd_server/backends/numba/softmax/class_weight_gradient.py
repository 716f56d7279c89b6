"""The gradient of class weights: Σ over rows, in the order of their index, of factor·t'·(−log p), in float64.

A class is summed by one thread, row after row, onto what is there: the bits depend neither on threads nor on how the
classes are cut, and sums can be carried on. Rows are finished first: their first maximum, ln(1 + rest) and factor are
known. The logits are read again, in float64.
"""

from __future__ import annotations

import math
from typing import Any

from lossd_server.backends.numba.batch_table import COUNTS, FINISHED, LOGITS, PROBABILITIES
from lossd_server.backends.numba.layout.blocks import PITCH, TILE, load_block, steps_of
from lossd_server.backends.numba.layout.row_tiles import entry, load_tile
from lossd_server.backends.numba.simd.math import log, log_ratio
from lossd_server.backends.numba.simd.memory import FLOAT64, copy_bytes, load, load_one, next_piece, size_of, store
from lossd_server.backends.numba.simd.operations import fma, splat
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import times
from lossd_server.backends.numba.softmax.row_state import EXPONENTIALS, INPUT, MIXED, SLOPES, STAGED
from lossd_server.backends.numba.softmax.softcap import cap
from lossd_server.jobs.jit import device_function, inlined, njit


@device_function
def greatest_logit(job: Any, layout: Any, outer: int, inner: int, first: int, scratch: int) -> float:
    """The row's maximum, capped."""
    at = scratch + EXPONENTIALS
    lies = entry(layout, outer, first, inner)
    load_block(at, job.input + lies * size_of(job.input_dtype), 1, job.input_dtype, 0.0, scratch + STAGED)
    if job.softcap != 0.0:
        cap(at, scratch + SLOPES, 1, job.softcap, 0.0)
    m = load_one(at, 0.0)
    return m if math.isfinite(m) else 0.0


@device_function
def add_row(job: Any, row: int, x: int, t: int, sums: int, steps: int, ref: float) -> None:
    """Adds a row's block to the sums of its classes."""
    kept = job.finished + 8 * FINISHED * row
    norm = load_one(kept, 0.0)
    log_rest = load_one(kept + 8, 0.0)
    factor = load_one(kept + 16, 0.0)
    share = factor * (1.0 - job.label_smoothing)
    smooth = splat(factor * (job.label_smoothing / job.classes))
    refs = splat(ref)
    norms = splat(norm)
    nothing = splat(0.0)
    for j in range(steps):
        value = load(x + j * BYTES, 0.0)
        if job.input_kind == LOGITS:
            nats = (refs - value) + log_rest
        elif job.input_kind == PROBABILITIES:
            nats = 0.0 - log(value)
        elif job.input_kind == COUNTS:
            nats = 0.0 - log_ratio(value, norms, nothing, log(value) - log(norms))
        else:
            nats = 0.0 - value
        mixed = fma(load(t + j * BYTES, 0.0), share, smooth)
        store(sums + j * BYTES, load(sums + j * BYTES, 0.0) + times(mixed, nats))


@inlined
def do_classes(job: Any, begin: int, end: int, scratch: int) -> None:
    """All rows of classes begin … end − 1."""
    layout = (job.outer, job.classes, job.inner)
    n = end - begin
    steps = steps_of(n, 8)
    stage = scratch + STAGED
    sums = scratch + EXPONENTIALS + BYTES
    load_block(sums, job.weight_gradient + 8 * begin, n, FLOAT64, 0.0, stage)
    rows = job.outer * job.inner
    row = 0
    while row < rows:
        inner = row % job.inner
        count = min(TILE, job.inner - inner, rows - row) if job.inner > 1 else 1
        where = (row // job.inner, inner, count)
        load_tile(scratch + INPUT, job.input, job.input_dtype, layout, where, begin, n, 0.0, stage)
        load_tile(scratch + MIXED, job.target, job.target_dtype, layout, where, begin, n, 0.0, stage)
        for r in range(count):
            x = scratch + INPUT + r * PITCH
            ref = 0.0
            if job.input_kind == LOGITS:
                first = int(load_one(job.finished + 8 * FINISHED * (row + r), 0.0))
                # In shared memory the greatest may have gone before its index was looked for: −1 then.
                first = min(max(first, 0), job.classes - 1)
                ref = greatest_logit(job, layout, where[0], inner + r, first, scratch)
                if job.softcap != 0.0:
                    cap(x, scratch + SLOPES, steps, job.softcap, 0.0)
            add_row(job, row + r, x, scratch + MIXED + r * PITCH, sums, steps, ref)
        row += count
    copy_bytes(job.weight_gradient + 8 * begin, sums, 8 * n)


@njit
def sum_classes(jobs: Any, pieces: Any, counter: int, scratch: int, states: Any, zero: Any) -> None:
    """Takes pieces, ranges of classes, until none is left: as `softmax_rows`, after all rows are finished."""
    while True:
        i = next_piece(counter)
        if i >= pieces.shape[0]:
            return
        piece = pieces[i]
        do_classes(jobs[piece.job], piece.begin, piece.end, scratch)

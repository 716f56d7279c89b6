"""Target mix: v, what cross-entropy multiplies −log p by, class for class."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import (
    CROSS_ENTROPY_DISTRIBUTION,
    CROSS_ENTROPY_INDEX,
    CROSS_ENTROPY_KINDS_DISTRIBUTION,
)
from lossd_server.backends.numba.layout.blocks import PITCH, dtype_of, fill, load_block, vector_count
from lossd_server.backends.numba.layout.row_tiles import RowTile, load_tile
from lossd_server.backends.numba.layout.scratch import MIXED, STAGED, WEIGHTS
from lossd_server.backends.numba.simd.math import product
from lossd_server.backends.numba.simd.memory import cast, load, store
from lossd_server.backends.numba.simd.operations import fma, splat, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function


@device_function
def has_target_mix(job: Any) -> bool:
    """Whether a loss of logits has more than the target's own share."""
    return job.formula == CROSS_ENTROPY_DISTRIBUTION or (
        job.formula == CROSS_ENTROPY_INDEX and job.label_smoothing > 0.0
    )


@device_function
def mix(job: Any, tile: RowTile, begin: int, n: int, scratch: int, zero: Any) -> None:
    """Lays v of a tile's block in scratch, padded with 0: (ε/C)·w for index targets, where the target's own share is
    added apart; w·((1−ε)·t + ε/C) for distributions.
    """
    size = width(zero)
    vectors = vector_count(n, size)
    stage = scratch + STAGED
    distribution = job.formula == CROSS_ENTROPY_DISTRIBUTION or job.formula == CROSS_ENTROPY_KINDS_DISTRIBUTION
    smooth = job.label_smoothing / tile.classes
    if job.class_weight:
        load_block(scratch + WEIGHTS, job.class_weight + begin * size, n, dtype_of(zero), zero, stage)
    if distribution:
        load_tile(scratch + MIXED, job.target, job.target_dtype, tile, begin, n, zero, stage)
        if not job.class_weight and smooth == 0.0:
            return
    share = cast(1.0 - job.label_smoothing, zero)
    for r in range(tile.rows):
        at = scratch + MIXED + r * PITCH
        for j in range(vectors):
            v = splat(cast(smooth, zero))
            if distribution:
                t = load(at + j * BYTES, zero)
                v = fma(t, splat(share), v) if share != 0.0 else product(t, splat(share)) + v
            if job.class_weight and (distribution or smooth != 0.0):
                v = product(load(scratch + WEIGHTS + j * BYTES, zero), v)
            store(at + j * BYTES, v)
        fill(at, n, vectors * (BYTES // size), zero)

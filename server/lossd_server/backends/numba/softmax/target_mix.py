"""v: what cross-entropy multiplies −log p by, class for class."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_DISTRIBUTION, CROSS_ENTROPY_KINDS_DISTRIBUTION
from lossd_server.backends.numba.layout.blocks import PITCH, fill, load_block, steps_of
from lossd_server.backends.numba.layout.row_tiles import load_tile
from lossd_server.backends.numba.simd.memory import FLOAT32, FLOAT64, cast, load, store
from lossd_server.backends.numba.simd.operations import fma, splat, width
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.backends.numba.softmax.block_sums import times
from lossd_server.backends.numba.softmax.row_state import MIXED, STAGED, WEIGHTS
from lossd_server.jobs.jit import device_function


@device_function
def mix(job: Any, layout: Any, where: Any, begin: int, n: int, scratch: int, zero: Any) -> None:
    """Lays v of a tile's block in scratch, padded with 0: (ε/C)·w for index targets, where the target's own share is
    added apart; w·((1−ε)·t + ε/C) for distributions.
    """
    size = width(zero)
    steps = steps_of(n, size)
    stage = scratch + STAGED
    distribution = job.formula == CROSS_ENTROPY_DISTRIBUTION or job.formula == CROSS_ENTROPY_KINDS_DISTRIBUTION
    smooth = job.label_smoothing / layout[1]
    if job.class_weight:
        dtype = FLOAT32 if size == 4 else FLOAT64
        load_block(scratch + WEIGHTS, job.class_weight + begin * size, n, dtype, zero, stage)
    if distribution:
        load_tile(scratch + MIXED, job.target, job.target_dtype, layout, where, begin, n, zero, stage)
        if not job.class_weight and smooth == 0.0:
            return
    share = cast(1.0 - job.label_smoothing, zero)
    for r in range(where[2]):
        at = scratch + MIXED + r * PITCH
        for j in range(steps):
            v = splat(cast(smooth, zero))
            if distribution:
                v = fma(load(at + j * BYTES, zero), splat(share), v)
            if job.class_weight and (distribution or smooth != 0.0):
                v = times(load(scratch + WEIGHTS + j * BYTES, zero), v)
            store(at + j * BYTES, v)
        fill(at, n, steps * (BYTES // size), zero)

"""Softcap: k·tanh(x / k) in place of a logit x, and 1 − tanh² for its gradient."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.layout.blocks import RowBlock, vector_address
from lossd_server.backends.numba.simd.math import capped_and_slope, times
from lossd_server.backends.numba.simd.memory import cast, load, store
from lossd_server.backends.numba.simd.operations import splat
from lossd_server.backends.numba.simd.vector import BYTES
from lossd_server.jobs.jit import device_function


@device_function
def cap(row: int, slopes: int, vectors: int, bound: float, zero: Any) -> None:
    """Caps vectors of scratch, and leaves d capped / d x at `slopes`."""
    k = splat(cast(bound, zero))
    for j in range(vectors):
        value, slope = capped_and_slope(load(row + j * BYTES, zero), k)
        store(row + j * BYTES, value)
        store(slopes + j * BYTES, slope)


@device_function
def apply_slopes(out: RowBlock, slopes: int, like: Any) -> None:
    """Multiplies an output block by the slopes."""
    for j in range(out.vectors):
        at = vector_address(out, j)
        store(at, times(load(slopes + j * BYTES, like), load(at, like)))

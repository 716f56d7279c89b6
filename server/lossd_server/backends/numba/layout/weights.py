"""Weights: optional arrays of one number a row or class, 1 where there are none."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.simd.memory import load_one
from lossd_server.backends.numba.simd.operations import width
from lossd_server.jobs.jit import device_function
from lossd_server.jobs.reduction import annihilate


@device_function
def optional_number(at: int, i: int, like: Any) -> float:
    """Entry i of an optional array of `like`'s type; 1 where there is no array."""
    return float(load_one(at + i * width(like), like)) if at else 1.0


@device_function
def gradient_factor(job: Any, row: int) -> float:
    """What a row's gradient is multiplied by."""
    upstream = annihilate(job.scale, optional_number(job.row_upstream, row, 0.0))
    return annihilate(optional_number(job.row_weight, row, 0.0), upstream)

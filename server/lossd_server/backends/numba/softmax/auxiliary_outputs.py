"""Auxiliary outputs: log-sum-exp, entropy, argmax and correctness, which cross-entropy gives beside the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, FINISHED
from lossd_server.backends.numba.simd.memory import store_one
from lossd_server.jobs.jit import device_function


@device_function
def store_finished(job: Any, row: int, first_or_mass: float, log_rest: float, factor: float) -> None:
    """What the gradient of class weights needs of a row: see `FINISHED`."""
    to = job.finished + 8 * FINISHED * row
    store_one(to, first_or_mass)
    store_one(to + 8, log_rest)
    store_one(to + 16, factor)


@device_function
def write_outputs(job: Any, row: int, state: Any) -> None:
    """A finished row's entries in those arrays that were asked for."""
    if job.lse:
        store_one(job.lse + 8 * row, state.maximum + state.log_rest)
    if job.entropy:
        store_one(job.entropy + 8 * row, state.log_rest + state.gaps / (1.0 + state.rest))
    # A NaN among the logits is in the sum of exponentials, whatever the maximum is.
    first = -1 if math.isnan(state.below) else state.first
    if job.argmax:
        store_one(job.argmax + 8 * row, np.int64(first))
    if job.correct:
        correct = job.formula == CROSS_ENTROPY_INDEX and state.kept != 0 and first == state.target
        store_one(job.correct + row, np.uint8(correct))
    if job.finished:
        store_finished(job, row, float(state.first), state.log_rest, state.factor)

"""What cross-entropy's pass gives beside the loss: log-sum-exp, entropy, argmax, whether the target was met."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import CROSS_ENTROPY_INDEX, FINISHED
from lossd_server.backends.numba.simd.memory import store_one
from lossd_server.backends.numba.softmax import row_state as at
from lossd_server.jobs.jit import device_function


@device_function
def write_outputs(job: Any, row: int, state: Any) -> None:
    """A finished row's entries in those arrays that were asked for."""
    if job.lse:
        store_one(job.lse + 8 * row, state[at.MAXIMUM] + state[at.LOG_REST])
    if job.entropy:
        store_one(job.entropy + 8 * row, state[at.LOG_REST] + state[at.GAPS] / (1.0 + state[at.REST]))
    # A NaN among the logits is in the sum of exponentials, whatever the maximum is.
    first = -1 if math.isnan(state[at.BELOW]) else int(state[at.FIRST])
    if job.argmax:
        store_one(job.argmax + 8 * row, np.int64(first))
    if job.correct:
        met = job.formula == CROSS_ENTROPY_INDEX and state[at.KEPT] != 0.0 and first == int(state[at.CLASS])
        store_one(job.correct + row, np.uint8(met))
    if job.finished:
        kept = job.finished + 8 * FINISHED * row
        store_one(kept, state[at.FIRST])
        store_one(kept + 8, state[at.LOG_REST])
        store_one(kept + 16, state[at.FACTOR])

"""Kernel cost: about how long the kernels take for a job, by formula, dtype, shape and options.

Bytes do not tell: 2.7 MiB are 0.1 ms of one loss and 100 ms of another. Measured by `benchmarks/inline_cost.py` on one
core of an AMD EPYC.
"""

from __future__ import annotations

import numpy as np

from lossd_server.jobs.conversion_cost import SAFETY
from lossd_server.jobs.job import Formula, Job

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
# Nanoseconds: an element; an element where a row's entries lie apart (`Layout.inner`); a row, which of the elementwise
# formulas is the last dimension, along which weights are read.
Cost = tuple[float, float, float]
# Of the loss; with all gradients and unreduced losses; with all options too.
KERNELS: dict[tuple[Formula, np.dtype[np.generic]], tuple[Cost, Cost, Cost]] = {
    (Formula.CROSS_ENTROPY_INDEX, FLOAT32): ((0.34, 2.17, 6), (0.40, 4.12, 8), (1.59, 5.05, 7)),
    (Formula.CROSS_ENTROPY_INDEX, FLOAT64): ((0.63, 2.41, 6), (0.84, 4.84, 7), (3.26, 6.99, 8)),
    (Formula.CROSS_ENTROPY_DISTRIBUTION, FLOAT32): ((0.55, 4.22, 5), (0.81, 8.19, 8), (3.36, 15.03, 103)),
    (Formula.CROSS_ENTROPY_DISTRIBUTION, FLOAT64): ((1.01, 4.62, 5), (1.81, 9.28, 6), (6.07, 16.85, 86)),
    (Formula.ENTROPY_LOGITS, FLOAT32): ((0.49, 2.31, 4), (0.80, 4.42, 4), (0.81, 4.39, 4)),
    (Formula.ENTROPY_LOGITS, FLOAT64): ((1.13, 2.98, 4), (1.93, 5.60, 4), (1.89, 5.59, 4)),
    (Formula.ENTROPY_PROBABILITIES, FLOAT32): ((0.44, 2.21, 56), (0.82, 4.40, 72), (0.84, 4.36, 72)),
    (Formula.ENTROPY_PROBABILITIES, FLOAT64): ((0.95, 2.71, 58), (2.29, 5.46, 75), (2.14, 5.34, 75)),
    (Formula.ENTROPY_COUNTS, FLOAT32): ((0.60, 2.36, 69), (1.10, 4.53, 106), (1.11, 4.44, 106)),
    (Formula.ENTROPY_COUNTS, FLOAT64): ((1.21, 2.98, 64), (2.62, 5.82, 104), (2.55, 5.81, 105)),
    (Formula.NLL, FLOAT32): ((0.05, 0.05, 13), (0.09, 0.09, 22), (0.09, 0.09, 22)),
    (Formula.NLL, FLOAT64): ((0.03, 0.14, 4), (0.16, 0.24, 10), (0.16, 0.23, 10)),
    (Formula.CROSS_ENTROPY_KINDS_INDEX, FLOAT32): ((0.98, 2.64, 145), (1.47, 4.85, 180), (1.55, 4.90, 181)),
    (Formula.CROSS_ENTROPY_KINDS_INDEX, FLOAT64): ((1.64, 3.21, 127), (3.26, 6.09, 156), (3.99, 6.17, 205)),
    (Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, FLOAT32): ((1.25, 4.39, 161), (1.79, 8.62, 175), (4.22, 15.33, 249)),
    (Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, FLOAT64): ((1.85, 5.16, 123), (3.21, 9.81, 162), (5.85, 15.95, 216)),
    (Formula.KL_ROWS, FLOAT32): ((1.00, 4.41, 139), (2.05, 10.45, 171), (2.06, 10.38, 171)),
    (Formula.KL_ROWS, FLOAT64): ((1.98, 5.37, 137), (4.97, 12.70, 175), (5.22, 12.70, 243)),
    (Formula.SOFTMAX, FLOAT32): ((0.51, 4.00, 109), (0.78, 6.09, 117), (0.79, 5.99, 114)),
    (Formula.SOFTMAX, FLOAT64): ((1.32, 4.74, 104), (2.23, 6.93, 111), (2.06, 7.03, 113)),
    (Formula.LOG_SOFTMAX, FLOAT32): ((0.41, 3.92, 171), (0.77, 6.21, 120), (0.79, 6.00, 114)),
    (Formula.LOG_SOFTMAX, FLOAT64): ((1.17, 4.41, 125), (2.27, 7.10, 110), (2.27, 6.98, 109)),
    (Formula.BCE, FLOAT32): ((0.85, 0.85, 0), (1.36, 1.36, 0), (2.12, 2.12, 73)),
    (Formula.BCE, FLOAT64): ((1.87, 1.87, 0), (3.25, 3.25, 0), (4.50, 4.50, 86)),
    (Formula.BCE_WITH_LOGITS, FLOAT32): ((0.94, 0.94, 0), (1.29, 1.29, 0), (2.42, 2.42, 74)),
    (Formula.BCE_WITH_LOGITS, FLOAT64): ((2.41, 2.41, 0), (3.57, 3.57, 0), (5.95, 5.95, 86)),
    (Formula.KL, FLOAT32): ((1.20, 1.20, 0), (1.67, 1.67, 0), (2.59, 2.59, 74)),
    (Formula.KL, FLOAT64): ((2.88, 2.88, 0), (4.24, 4.24, 0), (5.77, 5.77, 86)),
    (Formula.SELF_INFORMATION, FLOAT32): ((0.40, 0.40, 0), (0.62, 0.62, 0), (1.62, 1.62, 74)),
    (Formula.SELF_INFORMATION, FLOAT64): ((0.88, 0.88, 0), (1.63, 1.63, 0), (3.49, 3.49, 85)),
    (Formula.SIGMOID, FLOAT32): ((0.44, 0.44, 0), (0.58, 0.58, 0), (1.55, 1.55, 74)),
    (Formula.SIGMOID, FLOAT64): ((1.15, 1.15, 0), (1.49, 1.49, 0), (3.40, 3.40, 84)),
    (Formula.LOG_SIGMOID, FLOAT32): ((0.76, 0.76, 0), (0.90, 0.90, 0), (2.09, 2.09, 75)),
    (Formula.LOG_SIGMOID, FLOAT64): ((2.10, 2.10, 0), (2.59, 2.59, 0), (4.72, 4.72, 86)),
}


def kernel_ns(job: Job) -> float:
    """Nanoseconds on one thread, rather more than fewer."""
    layout = job.layout
    formula = job.formula
    each, strided, row = KERNELS[formula, job.compute][_mode(job)]
    if not formula.elementwise:
        rows = layout.rows
        if layout.inner > 1:
            each = strided
    elif row:
        shape = job.input.shape
        rows = layout.elements // (shape[-1] or 1) if shape else 1
    else:
        rows = 0
    return SAFETY * (each * layout.elements + row * rows)


def _mode(job: Job) -> int:
    if (
        job.outputs
        or job.class_weight is not None
        or job.weight is not None
        or job.pos_weight is not None
        or job.upstream is not None
        or job.label_smoothing
        or job.softcap
        or job.z_loss
        or job.weight_gradient
        or job.row_weight is not None
        or job.row_upstream is not None
    ):
        return 2
    return 1 if job.input_gradient or job.target_gradient or job.keep_losses else 0

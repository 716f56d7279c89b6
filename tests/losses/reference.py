"""A backend in a screen of numpy: plain formulas in float64, so that the host's part can be seen by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.array import Array
from lossd_server.job import Computed, Fault, Formula, Job, Launch
from lossd_server.widening import FLOAT64, widen

Values = npt.NDArray[np.float64]


class Reference:
    """Cross-entropy from indices without smoothing, entropy of counts, and BCE; float64 losses, gradients by hand."""

    name = "reference"
    device = "numpy"
    inline_bytes = 0

    def __init__(self) -> None:
        self.launched: list[Launch] = []

    def warm_up(self, report: Callable[[str], None]) -> None: ...

    def close(self) -> None: ...

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.launched += launches
        return [FORMULAS[launch.job.formula](launch.job, launch.scale) for launch in launches]


def _rows(operand: Array, job: Job) -> Values:
    """(rows, classes), in the rows' order."""
    layout = job.layout
    values = widen(operand.values, operand.dtype, FLOAT64).reshape(layout.outer, layout.classes, layout.inner)
    return values.transpose(0, 2, 1).reshape(layout.rows, layout.classes)


def _flat(rows: Values, job: Job) -> npt.NDArray[Any]:
    layout = job.layout
    values = rows.reshape(layout.outer, layout.inner, layout.classes).transpose(0, 2, 1)
    return np.ascontiguousarray(values, job.input.values.dtype).reshape(-1)


def _cross_entropy(job: Job, scale: float) -> Computed:
    assert job.target is not None
    logits, target = _rows(job.input, job), job.target.values
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    keep = target != job.ignore_index
    label = np.where(keep, target, 0)
    weight = np.ones(job.layout.classes) if job.class_weight is None else job.class_weight.astype(np.float64)
    row = np.where(keep, weight[label], 0.0)
    one_hot = np.eye(job.layout.classes)[label]
    upstream = 1.0 if job.row_upstream is None else job.row_upstream[:, None]
    with np.errstate(invalid="ignore"):
        gradient = np.where(keep[:, None], scale * upstream * row[:, None] * (np.exp(log_p) - one_hot), 0.0)
    losses = -row * log_p[np.arange(len(label)), label]
    return Computed(losses=losses, input_gradient=_flat(gradient, job) if job.input_gradient else None)


def _entropy_of_counts(job: Job, scale: float) -> Computed:
    counts = _rows(job.input, job)
    if np.any(counts < 0):
        flat = int(np.argmax(widen(job.input.values, job.input.dtype, FLOAT64) < 0))
        return Computed(fault=(Fault.NEGATIVE_COUNT, flat))
    empty = counts.sum(axis=1) == 0
    if np.any(empty):
        return Computed(fault=(Fault.EMPTY_COUNTS, int(np.argmax(empty))))
    q = counts / counts.sum(axis=1, keepdims=True)
    return Computed(losses=-np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0)), 0.0).sum(axis=1))


def _bce(job: Job, scale: float) -> Computed:
    assert job.target is not None
    p = widen(job.input.values, job.input.dtype, FLOAT64)
    t = widen(job.target.values, job.target.dtype, FLOAT64)
    for values, fault in ((p, Fault.INPUT_NOT_PROBABILITY), (t, Fault.TARGET_NOT_PROBABILITY)):
        wrong = ~((values >= 0) & (values <= 1))
        if np.any(wrong):
            return Computed(fault=(fault, int(np.argmax(wrong))))
    losses = -(t * np.log(p) + (1 - t) * np.log1p(-p))
    size = job.layout.chunk_items * job.layout.classes
    sums = np.array([losses[start : start + size].sum() for start in range(0, losses.size, size)])
    return Computed(losses=losses.astype(job.compute) if job.keep_losses else None, chunk_sums=sums)


FORMULAS: dict[Formula, Callable[[Job, float], Computed]] = {
    Formula.CROSS_ENTROPY_INDEX: _cross_entropy,
    Formula.ENTROPY_COUNTS: _entropy_of_counts,
    Formula.BCE: _bce,
}

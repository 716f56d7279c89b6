"""Slicing of a job into ranges of its items: how many there are, where it may be cut, and the part that a range is.

An item is one index of the input's dimension 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lossd_server.jobs.job import Job, Layout
from lossd_server.tensors.array import Array, View


def items(job: Job) -> int:
    """How many items the job can be cut into: 1 where its one row, or nothing, lies along dimension 0."""
    shape, layout = job.input.shape, job.layout
    if not layout.elements or not shape or shape[0] > layout.outer:
        return 1
    return shape[0]


def granularity(job: Job) -> int:
    """Every part but the last has a multiple of this many items."""
    return job.layout.chunk_items if job.formula.elementwise else 1


def piece_items(job: Job, budget_bytes: int, parts: float = 1.0) -> int:
    """Items of a part that reads and writes about `budget_bytes`: all of them where the job is no larger.

    parts: how many there are at least, where it can be cut so often.
    """
    whole = items(job)
    size = job.work_bytes
    if whole == 1 or (size <= budget_bytes and parts <= 1.0):
        return whole
    most = min(budget_bytes * whole // max(size, 1), int(whole / max(parts, 1.0)))
    step = granularity(job)
    return min(whole, max(1, most // step) * step)


def slice_job(job: Job, first: int, count: int) -> Job:
    """Items first … first + count − 1 of the job, as views of it."""
    whole = items(job)
    if count == whole:
        return job
    layout = job.layout

    def cut(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        each = values.shape[0] // whole
        return values[first * each : (first + count) * each]

    def cut_array(operand: Array) -> Array:
        return Array(cut(operand.values), operand.dtype, (count, *operand.shape[1:]))

    def cut_view(view: View | None) -> View | None:
        if view is None:
            return None
        step = view.strides[0]
        values = view.values[first * step : (first + count) * step] if step else view.values
        return View(values, view.dtype, (count, *view.shape[1:]), view.strides)

    return replace(
        job,
        layout=Layout(layout.outer // whole * count, layout.classes, layout.inner),
        input=cut_array(job.input),
        target=None if job.target is None else cut_array(job.target),
        row_weight=None if job.row_weight is None else cut(job.row_weight),
        row_upstream=None if job.row_upstream is None else cut(job.row_upstream),
        weight=cut_view(job.weight),
        pos_weight=cut_view(job.pos_weight),
        upstream=cut_view(job.upstream),
        loss_shape=(count, *job.loss_shape[1:]),
        placed={name: cut(place) for name, place in job.placed.items() if name != "weight"},
    )

"""Conversion of operands to what kernels take: floats of every size, indices of 64 bits, weights as computed in.

That takes as long as a kernel does. So a check does it for small requests only; large ones are left `raw`, and
`evaluate` converts them, where they are computed and part by part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.conversion_cost import COPIES_BYTES, INT64, ConversionCost
from lossd_server.jobs.job import BadValue, Fault, Job, Kind, Layout
from lossd_server.jobs.reduction import BY_CLASS, divided_by_sums, read_only
from lossd_server.jobs.slicing import items
from lossd_server.losses.value_errors import value_error
from lossd_server.tensors.array import FLOATS, Array, View
from lossd_server.tensors.dtypes import DATA_TYPE, FLOAT64, widen, widened

# What a check converts at once: about what handing the job to another thread costs.
QUICK_NS = 15_000.0

MANY_ROWS = 1 << 13


def ready(job: Job) -> Job:
    """The job that a check gives: converted where that is quick, else raw. Raises InvalidRequest."""
    rows = job.layout.rows
    if rows > MANY_ROWS and items(job) == 1 and not job.formula.elementwise:
        job = replace(job, copied_bytes=rows * FLOAT64.itemsize)  # never cut: the losses of its rows are there at once
    if _is_ready(job):
        return job
    cost = conversion_cost(job)
    if cost.ns > QUICK_NS:
        # Computed part by part, where it has parts: then its copies are never all there.
        held = cost.bytes if items(job) == 1 else min(cost.bytes, COPIES_BYTES)
        return replace(
            job, raw=True, conversion_ns=cost.ns, converted_bytes=cost.bytes, copied_bytes=job.copied_bytes + held
        )
    try:
        return convert(job)
    except BadValue as bad:
        raise value_error(job, bad.fault, bad.index) from None


def convert(job: Job) -> Job:
    """A raw job with what kernels take. Raises BadValue for bools and target counts that are none."""
    job = convert_shared(job)
    target, target_kind = job.target, job.target_kind
    if target is not None:
        if job.formula in BY_CLASS:
            target = _indices(target)
        elif target_kind is Kind.COUNTS:
            target, target_kind = _distribution(target, job.layout, job.compute), Kind.PROBABILITIES
        else:
            target = _numbers(job, target)
    return replace(
        job,
        raw=False,
        sent_dtypes={},
        conversion_ns=0.0,
        converted_bytes=0,
        input=_numbers(job, job.input),
        target=target,
        target_kind=target_kind,
        row_weight=_weights(job, "row_weight", FLOAT64),
        row_upstream=_weights(job, "row_upstream", FLOAT64),
        weight=_view(job.weight, job.compute),
        pos_weight=_view(job.pos_weight, job.compute),
        upstream=_view(job.upstream, job.compute),
    )


def convert_shared(job: Job) -> Job:
    """With what all parts of a raw job have in common converted: once, before it is cut."""
    changed: dict[str, Any] = {
        name: _view(view, job.compute)
        for name, view in (("weight", job.weight), ("pos_weight", job.pos_weight), ("upstream", job.upstream))
        if view is not None and not any(view.strides[:1])
    }
    if "class_weight" in job.sent_dtypes:
        changed["class_weight"] = _weights(job, "class_weight", job.compute)
        changed["sent_dtypes"] = {name: dtype for name, dtype in job.sent_dtypes.items() if name != "class_weight"}
    return replace(job, **changed) if changed else job


def convert_denominator(job: Job) -> Job:
    """With what the denominator follows from converted, and nothing else: the job stays raw."""
    if not job.raw:
        return job
    target = job.target
    if target is not None and job.formula in BY_CLASS:
        target = _indices(target)
    row_weight = _weights(job, "row_weight", FLOAT64)
    return replace(convert_shared(job), target=target, row_weight=row_weight)


def _is_ready(job: Job) -> bool:
    target = job.target
    if job.input.dtype not in FLOATS or job.sent_dtypes:
        return False
    if target is not None and not (
        target.dtype == pb.DATA_TYPE_INT64
        if job.formula in BY_CLASS
        else target.dtype in FLOATS and job.target_kind is not Kind.COUNTS
    ):
        return False
    dtype = DATA_TYPE[job.compute]
    return all(view is None or view.dtype == dtype for view in (job.weight, job.pos_weight, job.upstream))


def conversion_cost(job: Job) -> ConversionCost:
    """What converting the job takes."""
    cost, compute, target = ConversionCost(), job.compute, job.target
    if job.input.dtype not in FLOATS:
        cost.widen(job.input.values, job.input.dtype, compute)
    if target is not None:
        if job.formula in BY_CLASS:
            if target.dtype != pb.DATA_TYPE_INT64:
                cost.widen(target.values, target.dtype, INT64)
        elif job.target_kind is Kind.COUNTS:
            cost.divide(target.values, target.dtype, compute)
        elif target.dtype not in FLOATS:
            cost.widen(target.values, target.dtype, compute)
    for view in (job.weight, job.pos_weight, job.upstream):
        if view is not None and view.dtype != DATA_TYPE[compute]:
            cost.widen(view.values, view.dtype, compute)
    for name, dtype in job.sent_dtypes.items():
        cost.widen(getattr(job, name), dtype, compute if name == "class_weight" else FLOAT64)
    return cost


def _indices(target: Array) -> Array:
    if target.dtype == pb.DATA_TYPE_INT64:
        return target
    return Array(target.values.astype(np.int64), pb.DATA_TYPE_INT64, target.shape)


def _numbers(job: Job, operand: Array) -> Array:
    if operand.dtype in FLOATS:
        return operand
    if operand.dtype == pb.DATA_TYPE_BOOL and operand.values.size and operand.values.max() > 1:
        raise BadValue(Fault.TARGET_NOT_BOOL, int(np.argmax(operand.values > 1)))
    return widened(operand, job.compute)


def _weights(job: Job, name: str, to: np.dtype[Any]) -> npt.NDArray[Any] | None:
    values: npt.NDArray[Any] | None = getattr(job, name)
    return values if values is None or name not in job.sent_dtypes else widen(values, job.sent_dtypes[name], to)


def _view(view: View | None, compute: np.dtype[Any]) -> View | None:
    if view is None or view.dtype == DATA_TYPE[compute]:
        return view
    return replace(view, values=widen(view.values, view.dtype, compute), dtype=DATA_TYPE[compute])


def _distribution(target: Array, layout: Layout, compute: np.dtype[Any]) -> Array:
    """A target of counts k as k / Σ k of every row, divided in float64."""
    if target.values.size != target.size:  # hollow
        return Array(np.empty(0, compute), DATA_TYPE[compute], target.shape)
    counts: npt.NDArray[np.float64] = widen(target.values, target.dtype, FLOAT64)
    shares = np.empty(layout.elements)
    negative, empty = divided_by_sums(read_only(counts), layout.outer, layout.classes, layout.inner, shares)
    if negative >= 0:
        raise BadValue(Fault.TARGET_NEGATIVE_COUNT, negative)
    if empty >= 0:
        raise BadValue(Fault.TARGET_EMPTY_COUNTS, empty)
    return Array(shares.astype(compute, copy=False), DATA_TYPE[compute], target.shape)

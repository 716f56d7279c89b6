"""Conversion of operands to what kernels take: floats of 16 bits and more.

That takes as long as a kernel does. So a check does it for small requests only; large ones are left `raw`, and
`evaluate` converts them, on the worker's thread and part by part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import BadValue, Fault, Job, Kind, Layout
from lossd_server.jobs.reduction import BY_CLASS, divided_by_sums, read_only
from lossd_server.losses.value_errors import value_error
from lossd_server.tensors.array import FLOATS, FLOATS8, Array
from lossd_server.tensors.dtypes import DATA_TYPE, FLOAT32, FLOAT64, widen, widened

TAKEN = FLOATS - FLOATS8
# Bytes of input and target up to which a check is soon over.
QUICK_BYTES = 1 << 16


def ready(job: Job) -> Job:
    """The job that a check gives: converted where that is quick, else raw. Raises InvalidRequest."""
    target = job.target
    if job.input.dtype in TAKEN and (target is None or job.formula in BY_CLASS or not _raw(job, target)):
        return job
    size = job.input.values.nbytes + (0 if target is None else target.values.nbytes)
    if size > QUICK_BYTES:
        return replace(job, raw=True)
    try:
        return convert(job)
    except BadValue as bad:
        raise value_error(job, bad.fault, bad.index) from None


def convert(job: Job) -> Job:
    """A raw job with numbers that kernels take. Raises BadValue for bools and target counts that are none."""
    target, target_kind = job.target, job.target_kind
    if target is not None and job.formula not in BY_CLASS:
        if target_kind is Kind.COUNTS:
            target, target_kind = _distribution(target, job.layout, job.compute), Kind.PROBABILITIES
        else:
            target = _numbers(job, target)
    return replace(job, raw=False, input=_numbers(job, job.input), target=target, target_kind=target_kind)


def _raw(job: Job, target: Array) -> bool:
    return job.target_kind is Kind.COUNTS or target.dtype not in TAKEN


def _numbers(job: Job, operand: Array) -> Array:
    """8-bit floats, whose gradients are float32 too, become float32, integers and bools what is computed in."""
    if operand.dtype in TAKEN:
        return operand
    if operand.dtype == pb.DATA_TYPE_BOOL and operand.values.size and operand.values.max() > 1:
        raise BadValue(Fault.TARGET_NOT_BOOL, int(np.argmax(operand.values > 1)))
    return widened(operand, FLOAT32 if operand.dtype in FLOATS8 else job.compute)


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

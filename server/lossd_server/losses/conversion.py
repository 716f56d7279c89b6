"""Operands as kernels take them: floats of 16 bits and more. What else may be sent becomes that here, value by value.

That takes as long as a kernel does. So a check does it for small requests only; large ones are left `raw`, and
`evaluate` does it, on the worker's thread and part by part.
"""

from __future__ import annotations

from dataclasses import replace

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind
from lossd_server.jobs.reduction import BY_CLASS
from lossd_server.losses import counts
from lossd_server.losses.operands import not_bool
from lossd_server.losses.shapes import row_shape
from lossd_server.tensors.array import FLOATS, FLOATS8, Array
from lossd_server.tensors.dtypes import FLOAT32, widened

TAKEN = FLOATS - FLOATS8
# Bytes of input and target up to which a check is soon over.
QUICK_BYTES = 1 << 16


def ready(job: Job) -> Job:
    """The job that a check gives: with numbers where that is quick, else raw. Raises InvalidRequest."""
    target = job.target
    if job.input.dtype in TAKEN and (target is None or job.formula in BY_CLASS or not _raw(job, target)):
        return job
    size = job.input.values.nbytes + (0 if target is None else target.values.nbytes)
    return replace(job, raw=True) if size > QUICK_BYTES else convert(job)


def convert(job: Job) -> Job:
    """A raw job with numbers; the values of bools and of target counts are checked. Raises InvalidRequest."""
    target, target_kind = job.target, job.target_kind
    if target is not None and job.formula not in BY_CLASS:
        if target_kind is Kind.COUNTS:
            rows = row_shape(job.input.shape) if job.formula is Formula.KL_ROWS else job.loss_shape
            target, target_kind = counts.distribution(target, job.layout, rows, job.compute), Kind.PROBABILITIES
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
        raise not_bool(operand)
    return widened(operand, FLOAT32 if operand.dtype in FLOATS8 else job.compute)

"""A value that a pass found becomes the sentence that the caller reads."""

from __future__ import annotations

from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Fault, Formula, Job
from lossd_server.losses.operands import index_text
from lossd_server.losses.shapes import row_shape
from lossd_server.tensors.array import FLOATS, Array
from lossd_server.tensors.dtypes import FLOAT64, widen


def value_error(job: Job, fault: Fault, index: int) -> InvalidRequest:
    """index: flat, in the target or input; a row's for EMPTY_COUNTS and CLASS_OUT_OF_RANGE."""
    if fault is Fault.EMPTY_COUNTS:
        rows = row_shape(job.input.shape) if job.formula is Formula.KL_ROWS else job.loss_shape
        return empty_counts("input", index, rows)
    if fault is Fault.NEGATIVE_COUNT:
        return negative_count(job.input, "input", index)
    if fault is Fault.INPUT_NOT_PROBABILITY:
        return _outside(job.input, "input", index, "[0, 1]", "NOT_A_PROBABILITY")
    assert job.target is not None
    if fault is Fault.TARGET_NOT_PROBABILITY:
        return _outside(job.target, "target", index, "[0, 1]", "NOT_A_PROBABILITY")
    return _outside(job.target, "target", index, f"[0, {job.layout.classes})", "CLASS_OUT_OF_RANGE")


def negative_count(operand: Array, field: str, index: int) -> InvalidRequest:
    """index: flat, of the first count that is below 0 or NaN."""
    return _outside(operand, field, index, "[0, inf)", "NEGATIVE_COUNT")


def empty_counts(field: str, row: int, rows: tuple[int, ...]) -> InvalidRequest:
    """row: index of the first row whose counts sum to 0, among `rows`, their shape."""
    where = index_text("row", row, rows)
    return InvalidRequest(
        f"the counts of {field}'s {where} sum to 0: a distribution needs one above",
        reason="EMPTY_COUNTS",
        field=field,
        metadata={"index": where, "value": 0},
    )


def _outside(operand: Array, field: str, index: int, bound: str, reason: str) -> InvalidRequest:
    where = index_text(field, index, operand.shape)
    stored = operand.values[index : index + 1]
    value = widen(stored, operand.dtype, FLOAT64)[0] if operand.dtype in FLOATS else stored[0]
    return InvalidRequest(
        f"{where} = {value} is outside {bound}",
        reason=reason,
        field=field,
        metadata={"index": where, "value": value, "bound": bound},
    )

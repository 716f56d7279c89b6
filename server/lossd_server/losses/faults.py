"""A value that a pass found becomes the sentence that the caller reads."""

from __future__ import annotations

from lossd_server.array import FLOATS, Array
from lossd_server.errors import InvalidRequest
from lossd_server.job import Fault, Job
from lossd_server.losses.operands import place
from lossd_server.widening import FLOAT64, widen


def refusal(job: Job, fault: Fault, index: int) -> InvalidRequest:
    """index: flat, in the target or input; a row's for EMPTY_COUNTS and CLASS_OUT_OF_RANGE."""
    if fault is Fault.EMPTY_COUNTS:
        return _empty_counts(job, index)
    if fault is Fault.NEGATIVE_COUNT:
        return _outside(job.input, "input", index, "[0, inf)", "NEGATIVE_COUNT")
    if fault is Fault.INPUT_NOT_PROBABILITY:
        return _outside(job.input, "input", index, "[0, 1]", "NOT_A_PROBABILITY")
    assert job.target is not None
    if fault is Fault.TARGET_NOT_PROBABILITY:
        return _outside(job.target, "target", index, "[0, 1]", "NOT_A_PROBABILITY")
    return _outside(job.target, "target", index, f"[0, {job.layout.classes})", "CLASS_OUT_OF_RANGE")


def _outside(operand: Array, field: str, index: int, bound: str, reason: str) -> InvalidRequest:
    where = place(field, index, operand.shape)
    stored = operand.values[index : index + 1]
    value = widen(stored, operand.dtype, FLOAT64)[0] if operand.dtype in FLOATS else stored[0]
    return InvalidRequest(
        f"{where} = {value} is outside {bound}",
        reason=reason,
        field=field,
        metadata={"index": where, "value": value, "bound": bound},
    )


def _empty_counts(job: Job, row: int) -> InvalidRequest:
    where = place("row", row, job.loss_shape)
    return InvalidRequest(
        f"the counts of input's {where} sum to 0: a distribution needs one above",
        reason="EMPTY_COUNTS",
        field="input",
        metadata={"index": where, "value": 0},
    )

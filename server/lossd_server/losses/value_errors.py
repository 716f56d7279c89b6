"""Value errors: a value that a pass found becomes the sentence that the caller reads."""

from __future__ import annotations

from math import isnan

from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Fault, Formula, Job, Reduction
from lossd_server.losses.operands import index_text
from lossd_server.losses.shapes import row_shape
from lossd_server.tensors.array import FLOATS, Array
from lossd_server.tensors.dtypes import FLOAT64, widen

BCE_OF_LOGITS = ": bce takes probabilities, bce_with_logits takes logits"


def value_error(job: Job, fault: Fault, index: int) -> InvalidRequest:
    """index: flat, in the target or input; a row's for counts that sum to 0, and for a class out of range.

    job: as it was when the value was found, raw or converted.
    """
    if fault is Fault.EMPTY_COUNTS or fault is Fault.TARGET_EMPTY_COUNTS:
        return _empty_counts(job, "input" if fault is Fault.EMPTY_COUNTS else "target", index)
    if fault is Fault.NEGATIVE_COUNT:
        return _outside(job.input, "input", index, "[0, inf)", "NEGATIVE_COUNT")
    if fault is Fault.INPUT_NOT_PROBABILITY:
        return _outside(job.input, "input", index, "[0, 1]", "NOT_A_PROBABILITY", BCE_OF_LOGITS)
    assert job.target is not None
    if fault is Fault.TARGET_NOT_BOOL:
        return _not_bool(job.target, index)
    if fault is Fault.TARGET_NEGATIVE_COUNT:
        return _outside(job.target, "target", index, "[0, inf)", "NEGATIVE_COUNT")
    if fault is Fault.TARGET_NOT_PROBABILITY:
        return _outside(job.target, "target", index, "[0, 1]", "NOT_A_PROBABILITY")
    label = int(job.target.values[index])
    padding = f"; to leave such rows out give ignore_index = {label}" if label < 0 else ""
    return _outside(job.target, "target", index, f"[0, {job.layout.classes})", "CLASS_OUT_OF_RANGE", padding)


def scale_error(job: Job, scale: float) -> InvalidRequest:
    """Gradients of float32 that would be multiplied by a number beyond it."""
    reducing = job.reducing
    field = "grad_output" if abs(reducing.upstream) > 1.0 else "base" if job.class_weight is None else "weight"
    denominator = "the sum of weights"
    if reducing.normalizer is not None:
        field, denominator = "normalizer", f"normalizer = {reducing.normalizer}"
    elif reducing.reduction is not Reduction.MEAN:
        denominator = "1"
    return InvalidRequest(
        f"the gradients would be multiplied by {scale:.3g} (grad_output over {denominator} and over ln(base)): more "
        "than float32 holds, which this is computed in; float64 tensors are computed in float64",
        reason="OPTION_OUT_OF_RANGE",
        field=field,
        metadata={"value": scale, "dtype": "float32"},
    )


def _empty_counts(job: Job, field: str, row: int) -> InvalidRequest:
    where = index_text("row", row, row_shape(job.input.shape) if job.formula is Formula.KL_ROWS else job.loss_shape)
    return InvalidRequest(
        f"the counts of {field}'s {where} sum to 0: at least one must be above 0",
        reason="EMPTY_COUNTS",
        field=field,
        metadata={"index": where, "value": 0},
    )


def _not_bool(target: Array, index: int) -> InvalidRequest:
    where, value = index_text("target", index, target.shape), int(target.values[index])
    return InvalidRequest(
        f"{where} = {value} is not a bool: 0 or 1",
        reason="INVALID_BOOL",
        field="target",
        metadata={"index": where, "value": value},
    )


def _outside(operand: Array, field: str, index: int, bound: str, reason: str, hint: str = "") -> InvalidRequest:
    """hint: what is likely wrong; said of numbers that are not NaN."""
    where = index_text(field, index, operand.shape)
    stored = operand.values[index : index + 1]
    value = widen(stored, operand.dtype, FLOAT64)[0] if operand.dtype in FLOATS else stored[0]
    return InvalidRequest(
        f"{where} = {value} is outside {bound}" + ("" if isnan(value) else hint),
        reason=reason,
        field=field,
        metadata={"index": where, "value": value, "bound": bound},
    )

"""Counts: operands that may be integers."""

from __future__ import annotations

from lossd.v1 import loss_pb2 as pb
from lossd_server.losses import operands
from lossd_server.tensors.array import FLOATS, INTEGERS, Array
from lossd_server.tensors.request_fields import Fields

NO_INPUT_GRADIENT: dict[int, str] = {pb.GRADIENT_INPUT: "counts of an integer dtype have none"}
NO_TARGET_GRADIENT: dict[int, str] = {pb.GRADIENT_TARGET: "a target of counts has none"}


def count_operand(fields: Fields, field: str, kind_field: str, counts: bool) -> Array:
    """The tensor of `field`: of a float dtype, or where it holds `counts` of an integer dtype too."""
    array = operands.operand(fields, field)
    if array.dtype in FLOATS or (counts and array.dtype in INTEGERS):
        return array
    raise operands.dtype_not_taken(array, field, f"a float dtype, or an integer dtype with {kind_field} counts")

"""Counts: operands that may be integers, and targets that are divided by their rows' sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Layout
from lossd_server.jobs.reduction import divided_by_sums, read_only
from lossd_server.losses import operands, value_errors
from lossd_server.tensors.array import FLOATS, INTEGERS, Array
from lossd_server.tensors.dtypes import DATA_TYPE, FLOAT64, widen
from lossd_server.tensors.request_fields import Fields

NO_INPUT_GRADIENT: dict[int, str] = {pb.GRADIENT_INPUT: "counts of an integer dtype have none"}
NO_TARGET_GRADIENT: dict[int, str] = {pb.GRADIENT_TARGET: "a target of counts has none"}


def count_operand(fields: Fields, field: str, kind_field: str, counts: bool) -> Array:
    """The tensor of `field`: of a float dtype, or where it holds `counts` of an integer dtype too."""
    array = operands.operand(fields, field)
    if array.dtype in FLOATS or (counts and array.dtype in INTEGERS):
        return array
    raise operands.dtype_not_taken(array, field, f"a float dtype, or an integer dtype for {kind_field} KIND_COUNTS,")


def distribution(target: Array, layout: Layout, rows: tuple[int, ...], compute: np.dtype[Any]) -> Array:
    """The target k as k / Σ k of every row, divided in float64. rows: their shape.

    A negative count and a row of zeros are refused.
    """
    if target.values.size != target.size:  # hollow
        return Array(np.empty(0, compute), DATA_TYPE[compute], target.shape)
    counts: npt.NDArray[np.float64] = widen(target.values, target.dtype, FLOAT64)
    shares = np.empty(layout.elements)
    negative, empty = divided_by_sums(read_only(counts), layout.outer, layout.classes, layout.inner, shares)
    if negative >= 0:
        raise value_errors.negative_count(target, "target", negative)
    if empty >= 0:
        raise value_errors.empty_counts("target", empty, rows)
    return Array(shares.astype(compute, copy=False), DATA_TYPE[compute], target.shape)

"""Dtype conversion: operands in the dtype that a kernel computes in (exact but for large integers), and back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.tensors.array import FLOATS8, STORAGE, Array

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
LOOKED_UP = 1 << 14
DATA_TYPE: dict[np.dtype[Any], int] = {FLOAT32: pb.DATA_TYPE_FLOAT32, FLOAT64: pb.DATA_TYPE_FLOAT64}


def compute_dtype(*operands: Array | None) -> np.dtype[Any]:
    """float64 where any operand is, else float32."""
    for operand in operands:
        if operand is not None and operand.dtype == pb.DATA_TYPE_FLOAT64:
            return FLOAT64
    return FLOAT32


def widen(values: npt.NDArray[Any], dtype: int, compute: np.dtype[Any]) -> npt.NDArray[Any]:
    """Stored `values` of wire dtype `dtype` as numbers of dtype `compute`; the same array where they are already."""
    if dtype == pb.DATA_TYPE_FLOAT16:
        values = values.view("<f2")
    elif dtype == pb.DATA_TYPE_BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif dtype in FLOATS8:
        values = _looked_up(values, float8_values(dtype))
    if values.dtype == compute:
        return values
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one, as it would in any kernel
        return values.astype(compute)


def _looked_up(values: npt.NDArray[np.uint8], table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A range at a time: numpy makes the indices eight times as large."""
    found = np.empty(values.shape, table.dtype)
    for first in range(0, values.size, LOOKED_UP):
        found[first : first + LOOKED_UP] = table[values[first : first + LOOKED_UP]]
    return found


def widened(operand: Array, compute: np.dtype[Any]) -> Array:
    """The operand as an Array of dtype `compute`."""
    return Array(widen(operand.values, operand.dtype, compute), DATA_TYPE[compute], operand.shape)


def narrowed(values: npt.NDArray[np.float64], dtype: int) -> npt.NDArray[Any]:
    """float64 numbers as stored elements of a 16-bit or wider float dtype, rounded once, to nearest even."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == pb.DATA_TYPE_FLOAT16:
            return values.astype("<f2").view(STORAGE[dtype])
        if dtype != pb.DATA_TYPE_BFLOAT16:
            return values.astype(STORAGE[dtype], copy=False)
        near = values.astype(np.float32)
    bits = near.view(np.uint32)
    # By way of float32 it would be rounded twice. Rounded there to odd, what was cut off still tells in the next step.
    bits = np.where(np.abs(near) > np.abs(values), bits - np.uint32(1), bits) | (near != values)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(STORAGE[dtype])


@cache
def float8_values(dtype: int) -> npt.NDArray[np.float32]:
    """What each of the 256 bytes of an 8-bit float means (OCP 8-bit Floating Point Specification, revision 1.0)."""
    bits = np.arange(256)
    mantissa_bits, bias = (3, 7) if dtype == pb.DATA_TYPE_FLOAT8_E4M3FN else (2, 15)
    exponent = (bits & 0x7F) >> mantissa_bits
    mantissa = bits & ((1 << mantissa_bits) - 1)
    significand = np.where(exponent > 0, mantissa + (1 << mantissa_bits), mantissa).astype(np.float32)
    values: npt.NDArray[np.float32] = np.ldexp(significand, np.maximum(exponent, 1) - bias - mantissa_bits)
    if dtype == pb.DATA_TYPE_FLOAT8_E4M3FN:  # no infinity; NaN is all ones
        values[(bits & 0x7F) == 0x7F] = np.nan
    else:
        values[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    values[bits >= 128] *= -1.0
    return values

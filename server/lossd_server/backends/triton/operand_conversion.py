"""Conversion of operands to what kernels read: floats of 8 to 64 bits, broadcasts with at most three strides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.tensors.array import FLOATS, View


def dtype_code(compute: np.dtype[Any]) -> int:
    """The DataType of a compute dtype."""
    return pb.DATA_TYPE_FLOAT64 if compute == np.float64 else pb.DATA_TYPE_FLOAT32


def kernel_dtype(dtype: int, compute: np.dtype[Any]) -> int:
    """The dtype that kernels read an operand of `dtype` in."""
    return dtype if dtype in FLOATS else dtype_code(compute)


def convert_operand(values: npt.NDArray[Any], dtype: int, compute: np.dtype[Any]) -> tuple[npt.NDArray[Any], int]:
    """`values` and their dtype as kernels read them: bool and integers become `compute`."""
    if dtype in FLOATS:
        return values, dtype
    return values.astype(compute), dtype_code(compute)


def collapse_view(view: View) -> tuple[npt.NDArray[Any], tuple[int, int, int, int, int]]:
    """A view's values and (middle, last, s0, s1, s2), as descriptor.py has them.

    Neighbouring dimensions that one stride covers become one; a view that still has more than three is written out.
    """
    dims: list[tuple[int, int]] = []  # (size, stride)
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1][1] == stride * size:
            dims[-1] = (dims[-1][0] * size, stride)
        else:
            dims.append((size, stride))
    if len(dims) > 3:
        itemsize = view.values.itemsize
        spread = np.lib.stride_tricks.as_strided(
            view.values, view.shape, tuple(stride * itemsize for stride in view.strides), writeable=False
        )
        return spread.ravel(), (1, 1, 1, 0, 0)
    (_, s0), (middle, s1), (last, s2) = [(1, 0)] * (3 - len(dims)) + dims
    return view.values, (middle, last, s0, s1, s2)


def as_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an array."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)

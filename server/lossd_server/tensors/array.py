"""Arrays: operands as they lie in memory. A flat little-endian array, its wire dtype, its shape."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import contract
from lossd.v1 import tensor_pb2 as pb

# The numpy dtype that an element's bits are stored as. numpy has no bfloat16 and no 8-bit floats: their bits.
STORAGE: dict[int, np.dtype[Any]] = {
    pb.DATA_TYPE_BOOL: np.dtype(np.uint8),
    pb.DATA_TYPE_UINT8: np.dtype(np.uint8),
    pb.DATA_TYPE_INT8: np.dtype(np.int8),
    pb.DATA_TYPE_INT16: np.dtype("<i2"),
    pb.DATA_TYPE_INT32: np.dtype("<i4"),
    pb.DATA_TYPE_INT64: np.dtype("<i8"),
    pb.DATA_TYPE_FLOAT8_E4M3FN: np.dtype(np.uint8),
    pb.DATA_TYPE_FLOAT8_E5M2: np.dtype(np.uint8),
    pb.DATA_TYPE_FLOAT16: np.dtype("<u2"),
    pb.DATA_TYPE_BFLOAT16: np.dtype("<u2"),
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
INTEGERS = frozenset(
    {pb.DATA_TYPE_UINT8, pb.DATA_TYPE_INT8, pb.DATA_TYPE_INT16, pb.DATA_TYPE_INT32, pb.DATA_TYPE_INT64}
)
FLOATS8 = frozenset({pb.DATA_TYPE_FLOAT8_E4M3FN, pb.DATA_TYPE_FLOAT8_E5M2})
FLOATS = contract.FLOATS


@dataclass(frozen=True, slots=True)
class Array:
    """A dense operand in C order.

    `values` is one-dimensional, of dtype `STORAGE[dtype]` (raw bits for float16, bfloat16 and 8-bit floats), usually a
    view of the message's bytes: read-only, at any address. `dtype` is a `lossd.v1.DataType`.
    """

    values: npt.NDArray[Any]
    dtype: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def computed_bytes(self) -> int:
        """`values.nbytes`, of 8-bit floats those of float32: they take as long, and so large are their gradients."""
        return self.values.nbytes * (4 if self.dtype in FLOATS8 else 1)


@dataclass(frozen=True, slots=True)
class View:
    """An operand broadcast to the input's shape: `shape` is the input's, `strides` are in elements, 0 where broadcast.

    Element (i0, …, ik) of the broadcast operand is `values[Σ strides[j]·ij]`.
    """

    values: npt.NDArray[Any]
    dtype: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def address_of(values: npt.NDArray[Any]) -> int:
    """Where an array's first element lies."""
    address: int = values.__array_interface__["data"][0]
    return address

"""Short ways to write Tensor messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.tensors.array import STORAGE

WIRE = {
    "bool": pb.DATA_TYPE_BOOL,
    "uint8": pb.DATA_TYPE_UINT8,
    "int8": pb.DATA_TYPE_INT8,
    "int16": pb.DATA_TYPE_INT16,
    "int32": pb.DATA_TYPE_INT32,
    "int64": pb.DATA_TYPE_INT64,
    "float16": pb.DATA_TYPE_FLOAT16,
    "float32": pb.DATA_TYPE_FLOAT32,
    "float64": pb.DATA_TYPE_FLOAT64,
}


def tensor(values: npt.ArrayLike, dtype: str = "float32") -> pb.Tensor:
    """A Tensor of numpy-like values."""
    array = np.asarray(values, dtype)
    return pb.Tensor(dtype=WIRE[dtype], shape=array.shape, data=array.tobytes())


def zeros(*shape: int, dtype: int = pb.DATA_TYPE_FLOAT32) -> pb.Tensor:
    """A Tensor of zeros, of any wire dtype."""
    return raw(shape, dtype, int(np.prod(shape)) * STORAGE[dtype].itemsize)


def raw(shape: Any, dtype: int, size: int) -> pb.Tensor:
    """A Tensor that says one thing and holds `size` zero bytes."""
    return pb.Tensor(dtype=dtype, shape=shape, data=bytes(size))  # type: ignore[arg-type]  # wrong on purpose at times

"""Arrays in and out of `lossd.v1.Tensor`: no loop over elements, no change of dtype.

numpy arrays, lists (as numpy makes them), torch CPU tensors of any dtype, and anything with DLPack, the buffer protocol
or numpy's array protocols. torch and ml_dtypes are never imported to look at an array: who passes one has them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lossd.errors import InternalError, InvalidArgument
from lossd.v1 import tensor_pb2 as pb

# What takes part in a call: an array of any kind that this module's first sentence names.
Tensor = Any

NAMES: dict[pb.DataType.ValueType, str] = {
    pb.DATA_TYPE_BOOL: "bool",
    pb.DATA_TYPE_UINT8: "uint8",
    pb.DATA_TYPE_INT8: "int8",
    pb.DATA_TYPE_INT16: "int16",
    pb.DATA_TYPE_INT32: "int32",
    pb.DATA_TYPE_INT64: "int64",
    pb.DATA_TYPE_FLOAT8_E4M3FN: "float8_e4m3fn",
    pb.DATA_TYPE_FLOAT8_E5M2: "float8_e5m2",
    pb.DATA_TYPE_FLOAT16: "float16",
    pb.DATA_TYPE_BFLOAT16: "bfloat16",
    pb.DATA_TYPE_FLOAT32: "float32",
    pb.DATA_TYPE_FLOAT64: "float64",
}
_BY_NAME = {name: dtype for dtype, name in NAMES.items()}
# numpy has no bfloat16 and no 8-bit floats of its own: ml_dtypes registers them, by the same names.
_FOREIGN = (pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT8_E4M3FN, pb.DATA_TYPE_FLOAT8_E5M2)
_NUMPY: dict[pb.DataType.ValueType, np.dtype[Any]] = {
    dtype: np.dtype(name).newbyteorder("<") for dtype, name in NAMES.items() if dtype not in _FOREIGN
}
_BY_NUMPY = {dtype: wire for wire, dtype in _NUMPY.items()}
# torch hands these to numpy only as the integers of their bits.
_TORCH_BITS = {
    pb.DATA_TYPE_BFLOAT16: "int16",
    pb.DATA_TYPE_FLOAT8_E4M3FN: "uint8",
    pb.DATA_TYPE_FLOAT8_E5M2: "uint8",
}


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor ready for the wire: its elements in C order, little-endian. torch: it was given as torch's."""

    dtype: pb.DataType.ValueType
    shape: tuple[int, ...]
    data: bytes
    torch: bool


def take(field: str, value: Tensor) -> Operand:
    """`value` as the operand `field`; InvalidArgument where it has no place on the wire."""
    if type(value) is not np.ndarray:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
            return _take_torch(field, value, torch)
        value = _as_numpy(field, value)
    dtype = _BY_NUMPY.get(value.dtype)
    if dtype is None:
        dtype = _BY_NAME.get(value.dtype.name)
        if dtype is None:
            _refuse_dtype(field, value.dtype.name)
        if value.dtype.str[0] == ">":
            value = value.astype(value.dtype.newbyteorder("<"))
    return Operand(dtype, value.shape, value.tobytes(), False)


def _take_torch(field: str, value: Tensor, torch: Any) -> Operand:
    dtype = _BY_NAME.get(str(value.dtype).removeprefix("torch."))
    if dtype is None:
        _refuse_dtype(field, str(value.dtype))
    if value.device.type != "cpu" or value.layout is not torch.strided:
        _refuse(
            field, f"is a torch tensor on {value.device}, {value.layout}: give a dense one on the CPU", "NOT_ON_CPU"
        )
    dense = value.detach()
    if dtype in _TORCH_BITS:
        dense = dense.view(getattr(torch, _TORCH_BITS[dtype]))
    return Operand(dtype, tuple(value.shape), dense.numpy(force=True).tobytes(), True)


def _as_numpy(field: str, value: Tensor) -> npt.NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray):
        _refuse(field, "is a masked array: fill it, or leave rows out with ignore_index or row_weight", "MASKED_ARRAY")
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError):
            # Not on the CPU, or a dtype that numpy's DLPack does not know: the array protocols may.
            if not hasattr(value, "__array__"):
                _refuse(field, f"is a {type(value).__name__} that numpy cannot read: copy it to the CPU", "NOT_ON_CPU")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        _refuse(field, f"is no array: {error}".splitlines()[0], "NOT_AN_ARRAY")


def _refuse_dtype(field: str, name: str) -> NoReturn:
    _refuse(field, f"has dtype {name}; convert it to one of {', '.join(NAMES.values())}", "DTYPE_NOT_TAKEN", dtype=name)


def _refuse(field: str, what: str, reason: str, **metadata: str) -> NoReturn:
    raise InvalidArgument(f"{field} {what}", field=field, reason=reason, metadata=metadata) from None


def give(tensor: pb.Tensor, *, torch: bool = False) -> Tensor:
    """The array of `tensor`, writable and its own: numpy's, or torch's where `torch`."""
    dtype, shape, memory = tensor.dtype, tuple(tensor.shape), bytearray(tensor.data)
    try:
        if torch:
            return _give_torch(dtype, shape, memory)
        return np.ndarray(shape, _NUMPY[dtype] if dtype in _NUMPY else _foreign(dtype), memory)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        sentence = f"the answer holds a tensor of dtype {dtype}, shape {shape} in {len(memory)} bytes: {error}"
        raise InternalError(sentence, reason="MALFORMED_ANSWER") from None


def _foreign(dtype: pb.DataType.ValueType) -> np.dtype[Any]:
    import ml_dtypes

    foreign: np.dtype[Any] = np.dtype(getattr(ml_dtypes, NAMES[dtype]))
    return foreign


def _give_torch(dtype: pb.DataType.ValueType, shape: tuple[int, ...], memory: bytearray) -> Tensor:
    torch: Any = sys.modules["torch"]
    kind = getattr(torch, NAMES[dtype])
    if not memory:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(memory, dtype=kind).reshape(shape)

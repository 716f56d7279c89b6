"""Tensors: arrays in and out of `lossd.v1.Tensor`. No loop over elements, no change of dtype but one.

The wire has no unsigned integers of more than 8 bits: labels and counts of these are sent as signed ones that fit them.

numpy arrays, lists (as numpy makes them), torch CPU tensors of any dtype, and anything with DLPack, the buffer protocol
or numpy's array protocols. torch and ml_dtypes are never imported to look at an array: who passes one has them.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from mmap import mmap
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from lossd.errors import InternalError, InvalidArgument
from lossd.request import integers
from lossd.request.conversion_cost import as_array
from lossd.v1 import tensor_pb2 as pb

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


# Up to here unsigned integers are converted at once; a call that has more is never a small one, and is checked and
# converted where it may take its time (`Call.checked`).
_AT_ONCE_BYTES = 1 << 20

FLOAT32, FLOAT64 = pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64

_LISTS = (list, tuple, deque)  # read entry by entry: they may hold masked arrays
# Below this many bytes a copy costs less than a view.
_SMALL_BYTES = 1 << 12


class Operand(NamedTuple):
    """A tensor that takes part in a call: the caller's own memory, neither copied nor read before it is sent.

    values: of any strides and byte order; dtypes that numpy lacks may be integers of their bits. torch: it was given
    as torch's. at: token and offset of where the values lie in shared memory.
    """

    dtype: pb.DataType.ValueType
    values: npt.NDArray[Any]
    torch: bool = False
    at: tuple[bytes, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def layout(self) -> np.dtype[Any]:
        """The dtype of the elements as they are sent, in the types that numpy has."""
        return self.values.dtype.newbyteorder("<")

    def data(self) -> bytes | memoryview:
        """The elements as the wire has them: C order, little-endian. Copied only where small or not lying so."""
        return raw(self.values)

    def items(self, start: int, stop: int) -> bytes | memoryview:
        """The same of the items [start, stop) of dimension 0."""
        return raw(self.values[start:stop])

    def reference(self) -> bytes:
        """The Tensor message of values that lie in shared memory, serialised."""
        assert self.at is not None
        memory = pb.SharedMemory(token=self.at[0], offset=self.at[1], length=self.values.nbytes)
        return pb.Tensor(dtype=self.dtype, shape=self.shape, shared_memory=memory).SerializeToString()

    def owned(self) -> Operand:
        """The same in memory that the caller cannot change; a file mapped for reading stays where it is."""
        if self.is_mapped() and not self.values.flags.writeable:
            return self
        return self._replace(values=self.values.copy())

    def checked(self, field: str) -> Operand:
        """The same, with only such values as the wire can hold; InvalidArgument where there are others."""
        return self

    def is_mapped(self) -> bool:
        """Whether the elements lie in a file that is mapped into memory."""
        base: Any = self.values
        while base is not None:
            if isinstance(base, np.memmap | mmap):
                return True
            base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        return False


class UnsignedOperand(Operand):
    """An operand of unsigned integers that the wire lacks: each part is converted as it is sent.

    Its `checked` must come before it is sent.
    """

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        return self.values.size * self.layout.itemsize

    @property
    def layout(self) -> np.dtype[Any]:
        return _NUMPY[self.dtype]

    def data(self) -> bytes | memoryview:
        return raw(self.values.astype(self.layout))

    def items(self, start: int, stop: int) -> bytes | memoryview:
        return raw(self.values[start:stop].astype(self.layout))

    def owned(self) -> Operand:
        if self.is_mapped() and not self.values.flags.writeable:
            return self
        return Operand(self.dtype, self.values.astype(self.layout), self.torch)

    def checked(self, field: str) -> Operand:
        """Of 64 bits: the same memory as int64. One pass over the elements, and no copy."""
        if self.values.itemsize < 8:
            return self
        return Operand(self.dtype, integers.as_int64(field, self.values), self.torch)


def raw(values: npt.NDArray[Any]) -> bytes | memoryview:
    """The array's bytes in C order, little-endian."""
    if values.dtype.str[0] == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    if values.nbytes < _SMALL_BYTES or not values.flags.c_contiguous:
        return values.tobytes()
    # As bytes, since the buffer protocol has no name for the dtypes of ml_dtypes.
    return values.reshape(-1).view(np.uint8).data


def take(field: str, value: Any) -> Operand:
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
            return _take_unsigned(field, value, value.dtype.name, torch=False)
    return Operand(dtype, value)


def _take_torch(field: str, value: Any, torch: Any) -> Operand:
    name = str(value.dtype).removeprefix("torch.")
    dtype = _BY_NAME.get(name, integers.SIGNED.get(name))
    if dtype is None:
        _refuse_dtype(field, str(value.dtype))
    if value.device.type != "cpu" or value.layout is not torch.strided:
        _refuse(
            field, f"is a torch tensor on {value.device}, {value.layout}: give a dense one on the CPU", "NOT_ON_CPU"
        )
    dense = value.detach()
    if name in integers.SIGNED:
        return _take_unsigned(field, dense.numpy(force=True), str(value.dtype), torch=True)
    if dtype in _TORCH_BITS:
        dense = dense.view(getattr(torch, _TORCH_BITS[dtype]))
    return Operand(dtype, dense.numpy(force=True), True)


def _take_unsigned(field: str, values: npt.NDArray[Any], name: str, *, torch: bool) -> Operand:
    """name: of the dtype, as it was given."""
    dtype = integers.SIGNED.get(values.dtype.name) if field in integers.FIELDS else None
    if dtype is None:
        _refuse_dtype(field, name)
    operand = UnsignedOperand(dtype, values, torch)
    return operand if values.nbytes > _AT_ONCE_BYTES else operand.checked(field).owned()


def _as_numpy(field: str, value: Any) -> npt.NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray) or (isinstance(value, _LISTS) and _holds_masked(value)):
        _refuse(field, "is a masked array: fill it, or leave rows out with ignore_index or row_weight", "MASKED_ARRAY")
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError):
            # Not on the CPU, or a dtype that numpy's DLPack does not know: the array protocols may.
            if not hasattr(value, "__array__"):
                _refuse(field, f"is a {type(value).__name__} that numpy cannot read: copy it to the CPU", "NOT_ON_CPU")
    try:
        array = as_array(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        _refuse(field, f"is not an array: {error}".splitlines()[0], "NOT_AN_ARRAY")
    if isinstance(value, list | tuple):
        integers.check_list(field, value, array)
    return array


def _holds_masked(values: Iterable[Any]) -> bool:
    """Whether a list has masked arrays or values in it, whose masks numpy would lose. Only rows are looked at."""
    for one in values:
        if isinstance(one, np.ma.MaskedArray) or (isinstance(one, _LISTS) and _holds_masked(one)):
            return True  # np.ma.masked is one too
        if isinstance(one, int | float):  # a row of numbers
            return any(other is np.ma.masked for other in values)
    return False


def _refuse_dtype(field: str, name: str) -> NoReturn:
    _refuse(field, f"has dtype {name}; convert it to one of {', '.join(NAMES.values())}", "DTYPE_NOT_TAKEN", dtype=name)


def _refuse(field: str, what: str, reason: str, **metadata: str) -> NoReturn:
    raise InvalidArgument(f"{field} {what}", field=field, reason=reason, metadata=metadata) from None


def give(tensor: pb.Tensor, *, torch: bool = False, data: bytes | memoryview | None = None) -> Any:
    """The array of `tensor`, writable and its own: numpy's, or torch's where `torch`.

    data: its elements, where they were cut out of the message.
    """
    memory = bytearray(tensor.data if data is None else data)
    return adopt(tensor.dtype, tuple(tensor.shape), memory, torch=torch)


def adopt(dtype: pb.DataType.ValueType, shape: tuple[int, ...], memory: Any, *, torch: bool = False) -> Any:
    """`memory`, a writable buffer of elements that the server sent, as an array without a copy."""
    try:
        if torch:
            return _adopt_torch(dtype, shape, memory)
        return np.ndarray(shape, numpy_dtype(dtype), memory)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        name = NAMES.get(dtype, dtype)
        sentence = f"the answer holds a tensor of dtype {name}, shape {list(shape)} in {len(memory)} bytes: {error}"
        raise InternalError(sentence, reason="MALFORMED_ANSWER") from None


def numpy_dtype(dtype: pb.DataType.ValueType) -> np.dtype[Any]:
    """numpy's, or ml_dtypes' where numpy has none; KeyError for a dtype of the future."""
    return _NUMPY[dtype] if dtype in _NUMPY else _foreign(dtype)


def item_bytes(dtype: pb.DataType.ValueType) -> int:
    """Bytes of one element."""
    return _NUMPY[dtype].itemsize if dtype in _NUMPY else 1 + (dtype == pb.DATA_TYPE_BFLOAT16)


def as_float64(values: npt.NDArray[Any], dtype: pb.DataType.ValueType) -> npt.NDArray[np.float64]:
    """The numbers of an operand's values, which for dtypes that numpy lacks may be integers of their bits."""
    if dtype in _FOREIGN and values.dtype.kind in "iu":
        values = np.ascontiguousarray(values)
        if dtype == pb.DATA_TYPE_BFLOAT16:
            return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        values = values.view(_foreign(dtype))
    return values.astype(np.float64)


def _foreign(dtype: pb.DataType.ValueType) -> np.dtype[Any]:
    import ml_dtypes

    foreign: np.dtype[Any] = np.dtype(getattr(ml_dtypes, NAMES[dtype]))
    return foreign


def _adopt_torch(dtype: pb.DataType.ValueType, shape: tuple[int, ...], memory: Any) -> Any:
    torch: Any = sys.modules["torch"]
    kind = getattr(torch, NAMES[dtype])
    if not len(memory):
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(memory, dtype=kind).reshape(shape)

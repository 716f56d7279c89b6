"""Operands: tensors as sent become Arrays. Every check that needs no other field."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd.contract import value_names
from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest, NotServed
from lossd_server.tensors.array import FLOATS, STORAGE, Array
from lossd_server.tensors.request_fields import Fields, WireTensor

MAX_DIMENSION = 2**40
# By number: every dtype that a tensor may have.
DTYPE_NAMES = value_names(pb.DataType.DESCRIPTOR)
# Of the dimensions that are not 0: keeps the shapes of empty tensors within what numpy can hold.
MAX_ELEMENTS = 2**48


def operand(fields: Fields, field: str) -> Array:
    """The tensor of `field`, of any dtype, a view of the bytes sent (not always an aligned one); no values if hollow.

    Sizes are compared as Python ints before anything is allocated from them.
    """
    sent: WireTensor | None = fields.get(field)
    if sent is None:
        raise InvalidRequest(f"{field} is missing", reason="MISSING_FIELD", field=field, metadata={"field": field})
    dtype = sent.dtype
    stored = STORAGE.get(dtype)
    if stored is None:
        raise InvalidRequest(
            f"{field} has dtype {dtype}, which is not one of {', '.join(DTYPE_NAMES.values())}",
            reason="UNKNOWN_ENUM",
            field=field,
            metadata={"value": dtype, "enum": "DataType"},
        )
    shape = sent.shape
    size = _elements(shape, field)
    if sent.storage == "hollow":
        return _hollow(stored, dtype, shape, field)
    if sent.storage not in ("data", ""):
        raise _not_here(field, sent.storage)
    data = sent.data
    expected = size * stored.itemsize
    if len(data) != expected:
        raise InvalidRequest(
            f"{field} has {len(data)} bytes of data, but its shape {list(shape)} of {dtype_name(dtype)} takes "
            f"{expected}",
            reason="LENGTH_MISMATCH",
            field=field,
            metadata={"bytes": len(data), "expected": expected, "shape": list(shape), "dtype": dtype_name(dtype)},
        )
    values = np.frombuffer(data, stored) if size else np.empty(0, stored)
    return Array(values, dtype, shape)


def float_operand(fields: Fields, field: str) -> Array:
    """The tensor of `field`, which must be of a float dtype."""
    array = operand(fields, field)
    if array.dtype not in FLOATS:
        raise dtype_not_taken(array, field, "a float dtype")
    return array


def optional_float_operand(fields: Fields, field: str) -> Array | None:
    """The same, or None where the field is absent."""
    return float_operand(fields, field) if field in fields else None


def dtype_name(dtype: int) -> str:
    """float32 for 22; "unknown dtype 99" for what is none."""
    return DTYPE_NAMES.get(dtype, f"unknown dtype {dtype}")


def dtype_not_taken(array: Array, field: str, taken: str) -> InvalidRequest:
    """taken: what the field must have: "a float dtype"."""
    name = dtype_name(array.dtype)
    return InvalidRequest(
        f"{field} has dtype {name}, but must have {taken}",
        reason="DTYPE_NOT_TAKEN",
        field=field,
        metadata={"dtype": name, "taken": taken},
    )


def index_text(field: str, flat: int, shape: tuple[int, ...]) -> str:
    """target[3, 5] for the flat index of an element; the bare field for a scalar."""
    if not shape:
        return field
    return f"{field}[{', '.join(str(i) for i in np.unravel_index(flat, shape))}]"


def _elements(shape: tuple[int, ...], field: str) -> int:
    """How many there are, of dimensions within bounds."""
    size = 1
    spread = 1
    for axis, length in enumerate(shape):
        if not 0 <= length <= MAX_DIMENSION:
            raise InvalidRequest(
                f"{field}.shape[{axis}] = {length} is outside [0, {MAX_DIMENSION}]",
                reason="INVALID_SHAPE",
                field=field,
                metadata={"axis": axis, "value": length, "bound": MAX_DIMENSION},
            )
        size *= length
        spread *= length or 1
    if spread > MAX_ELEMENTS:
        raise InvalidRequest(
            f"{field} of shape {list(shape)} spans {spread} elements, at most {MAX_ELEMENTS} are taken",
            reason="INVALID_SHAPE",
            field=field,
            metadata={"shape": list(shape), "value": spread, "bound": MAX_ELEMENTS},
        )
    return size


def _hollow(stored: np.dtype[Any], dtype: int, shape: tuple[int, ...], field: str) -> Array:
    """What stands for elements that are to come: every check passes it on."""
    if not shape:
        raise InvalidRequest(
            f"{field} is a scalar: it has no items that could be streamed",
            reason="NOT_STREAMABLE",
            field=field,
            metadata={"field": field},
        )
    return Array(np.empty(0, stored), dtype, shape)


def _not_here(field: str, storage: str) -> InvalidRequest | NotServed:
    if storage == "streamed":
        return InvalidRequest(
            f"{field} is streamed, but a request outside Stream holds its tensors in full",
            reason="STREAMED_OUTSIDE_STREAM",
            field=field,
            metadata={"field": field},
        )
    return NotServed(
        f"{field} lies in shared memory, which this server does not take here",
        reason="NOT_SERVED",
        field=field,
        metadata={"field": field, "option": "shared_memory"},
    )

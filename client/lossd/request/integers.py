"""Integers that the wire lacks: unsigned ones of more than 8 bits, which signed ones hold, and those beyond int64."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lossd.errors import InvalidArgument
from lossd.v1 import tensor_pb2 as pb

# What holds each; of 64 bits only where no value is greater than an int64.
SIGNED: dict[str, pb.DataType.ValueType] = {
    "uint16": pb.DATA_TYPE_INT32,
    "uint32": pb.DATA_TYPE_INT64,
    "uint64": pb.DATA_TYPE_INT64,
}
# The tensors that may be class indices or counts; all others are floats.
FIELDS = frozenset({"input", "target"})
_INT64 = range(-(2**63), 2**63)


def as_int64(field: str, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The memory of a uint64 array as int64; InvalidArgument where a value does not fit. One pass, and no copy."""
    if values.size and int(values.max()) not in _INT64:
        _refuse(field, values, int(values.argmax()))
    signed: npt.NDArray[np.int64] = values.view(values.dtype.str.replace("u", "i"))
    return signed


def check_list(field: str, values: Any, array: npt.NDArray[Any]) -> None:
    """Raises InvalidArgument for integers in a list beyond int64. array: what numpy made of it: objects, or floats."""
    if array.dtype == object or (array.dtype == np.float64 and (abs(array) >= 2.0**63).any()):
        objects = np.asarray(values, object)
        numbers: list[Any] = list(objects.flat)
        if all(isinstance(one, int) for one in numbers):
            for i, one in enumerate(numbers):
                if one not in _INT64:
                    _refuse(field, objects, i)


def _refuse(field: str, values: npt.NDArray[Any], at: int) -> NoReturn:
    """at: the flat index of one that does not fit."""
    index = [int(one) for one in np.unravel_index(at, values.shape)]
    where, value = f"{field}{index}" if index else field, str(values.flat[at])
    raise InvalidArgument(
        f"{where} = {value} does not fit int64, the widest integer that can be sent",
        field=field,
        reason="INTEGER_OUT_OF_RANGE",
        metadata={"index": where, "value": value},
    ) from None

"""Tensors in JSON: nested lists of numbers, or {dtype, shape, data} with the elements in base64."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from math import inf, isfinite, nan, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest, invalid
from lossd_server.tensors.array import FLOATS, FLOATS8, INTEGERS, STORAGE
from lossd_server.tensors.dtypes import FLOAT64, narrowed, widen
from lossd_server.tensors.request_fields import WireTensor, require_rank
from lossd_server.wire.status import shorten

DTYPES: Mapping[str, int] = {
    value.name.removeprefix("DATA_TYPE_").lower(): value.number
    for value in pb.DataType.DESCRIPTOR.values
    if value.number
}
DTYPE_NAMES: Mapping[int, str] = {number: name for name, number in DTYPES.items()}
# What JSON has no number for.
WORDS: Mapping[str, float] = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
# Numbers that are written at a time, during which no other thread runs.
CHUNK = 1024
SHOWN_BYTES = 64
COMPACT = (",", ":")
INT64 = range(-(2**63), 2**63)


def read_tensor(name: str, given: Any, dtype_of: Callable[[list[Any]], int]) -> WireTensor:
    """The tensor of field `name`. dtype_of: what a list's numbers are, that says nothing of it. Raises InvalidRequest:
    NOT_A_TENSOR, UNKNOWN_ENUM, RANK_TOO_LARGE. Whether shape and data fit is the loss's to check.
    """
    if isinstance(given, dict):
        return _described(name, given)
    shape, numbers = _flat(name, given)
    dtype = dtype_of(numbers)
    return WireTensor(dtype, shape, "data", _elements(name, numbers, dtype))


def is_whole(numbers: list[Any]) -> bool:
    """Whether all are written without a point."""
    return all(type(one) is int for one in numbers)


def write_tensor(tensor: pb.Tensor, encoding: str) -> Iterator[str]:
    """The JSON of a tensor that the server has made, in pieces. encoding: "numbers" or "base64"."""
    shape = tuple(tensor.shape)
    if encoding == "base64":
        described = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": shape, "data": b64encode(tensor.data).decode()}
        yield json.dumps(described, separators=COMPACT)
        return
    stored = np.frombuffer(tensor.data, STORAGE[tensor.dtype])
    values: npt.NDArray[Any] = stored.astype(bool) if tensor.dtype == pb.DATA_TYPE_BOOL else stored
    if tensor.dtype in FLOATS:
        values = widen(stored, tensor.dtype, FLOAT64)
    yield from _nested(values, shape)


def write_number(value: float) -> str:
    """A float as JSON, or as one of WORDS."""
    if isfinite(value):
        return repr(value)
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'


def _described(name: str, given: Mapping[str, Any]) -> WireTensor:
    """{dtype, shape, data}, or {dtype, values}."""
    dtype = given.get("dtype")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        shown, taken = shorten(str(dtype), SHOWN_BYTES), ", ".join(DTYPES)
        raise invalid(f"{name}.dtype = {shown!r} is not one of {taken}", "UNKNOWN_ENUM", name, value=shown, taken=taken)
    number = DTYPES[dtype]
    if set(given) == {"dtype", "values"}:
        if number in FLOATS8:
            raise _not_a_tensor(name, f"numbers as {dtype} are not taken: give its bytes in base64 as data")
        shape, numbers = _flat(name, given["values"])
        return WireTensor(number, shape, "data", _elements(name, numbers, number))
    if set(given) != {"dtype", "shape", "data"}:
        raise _not_a_tensor(name, "an object has dtype, shape and data, or dtype and values, and nothing else")
    dims, data = given["shape"], given["data"]
    if not isinstance(dims, list) or not all(type(dim) is int and dim in INT64 for dim in dims):
        raise _not_a_tensor(name, "shape must be a list of whole numbers")
    require_rank(name, len(dims))
    if not isinstance(data, str):
        raise _not_a_tensor(name, "data must be base64 as a string")
    try:
        return WireTensor(number, tuple(dims), "data", b64decode(data, validate=True))
    except (NotBase64, ValueError):
        raise _not_a_tensor(name, "data is not base64") from None


def _flat(name: str, given: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists, and their numbers in order."""
    shape: list[int] = []
    level = [given]
    while level and isinstance(level[0], list):
        length = len(level[0])
        require_rank(name, len(shape) + 1)
        if not all(isinstance(one, list) and len(one) == length for one in level):
            raise _not_a_tensor(name, f"its lists at depth {len(shape) + 1} are not all of {length} entries")
        shape.append(length)
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _elements(name: str, numbers: list[Any], dtype: int) -> bytes:
    if dtype == pb.DATA_TYPE_BOOL:
        if not all(type(one) is bool for one in numbers):
            raise _not_a_tensor(name, "its entries must be true or false")
        return bytes(numbers)
    if dtype in INTEGERS:
        bounds = np.iinfo(STORAGE[dtype])
        for one in numbers:
            if type(one) is not int or not bounds.min <= one <= bounds.max:
                raise _not_a_tensor(
                    name, f"{_shown(one)} is no {DTYPE_NAMES[dtype]}: a whole number in [{bounds.min}, {bounds.max}]"
                )
        return np.array(numbers, STORAGE[dtype]).tobytes()
    floats = np.array([one if type(one) is float else _float(name, one) for one in numbers], FLOAT64)
    # JSON itself has no infinity: a number that has become one was beyond the dtype.
    named = sum(type(one) is str and one != "NaN" for one in numbers)
    stored = narrowed(floats, dtype)
    if int(np.isinf(widen(stored, dtype, FLOAT64)).sum()) != named:
        raise _not_a_tensor(name, f'a number is beyond {DTYPE_NAMES[dtype]}: infinity is "Infinity"')
    return stored.tobytes()


def _float(name: str, given: Any) -> float:
    if type(given) is int:
        try:
            return float(given)
        except OverflowError:
            return inf
    word = WORDS.get(given) if type(given) is str else None
    if word is None:
        raise _not_a_tensor(name, f'{_shown(given)} is no number: "NaN", "Infinity" and "-Infinity" are the only words')
    return word


def _nested(values: npt.NDArray[Any], shape: tuple[int, ...]) -> Iterator[str]:
    """Numbers as lists of `shape`, CHUNK of them at a time."""
    if not shape:
        yield _joined(values[:1])
    elif len(shape) == 1:
        yield "["
        for first in range(0, len(values), CHUNK):
            yield ("," if first else "") + _joined(values[first : first + CHUNK])
        yield "]"
    else:
        size = prod(shape[1:])
        yield "["
        for place in range(shape[0]):
            if place:
                yield ","
            yield from _nested(values[place * size : (place + 1) * size], shape[1:])
        yield "]"


def _joined(values: npt.NDArray[Any]) -> str:
    if values.dtype == FLOAT64:
        return ",".join(map(repr if np.isfinite(values).all() else write_number, values.tolist()))
    return json.dumps(values.tolist(), separators=COMPACT)[1:-1]


def _not_a_tensor(name: str, sentence: str) -> InvalidRequest:
    return invalid(f"{name}: {sentence}", "NOT_A_TENSOR", name, name=name)


def _shown(given: Any) -> str:
    return shorten(json.dumps(given, default=str) if not isinstance(given, list | dict) else "a list", SHOWN_BYTES)

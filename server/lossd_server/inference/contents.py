"""Contents of an inference request: raw elements as views of its bytes, typed ones as the bytes that raw ones would be.

A large message is walked, field by field: raw and typed contents are cut out of it, and all else is left to the class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from lossd.v1 import tensor_pb2 as pb
from lossd.wire import tag, varint
from lossd_server.call.contract import Body
from lossd_server.errors import InvalidRequest, invalid, malformed
from lossd_server.inference.protocol import ModelInferRequest, descriptor
from lossd_server.tensors.array import STORAGE
from lossd_server.wire.field_count import COUNTED_BYTES, FieldTable, require_few_fields

REQUEST = descriptor("ModelInferRequest")
# Contents are not counted: they are cut out before a class sees them.
COUNTED = FieldTable((REQUEST,), ("inference.ModelInferRequest.InferInputTensor.contents",))
INPUTS, RAW, CONTENTS = 5, 7, 5
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
# Of a message, beside contents: names, shapes, options. More text than that takes long to be looked at.
MAX_BESIDE_BYTES = 1 << 16
# Of typed contents: a packed field is one or few. Integers are read one by one, on the loop's thread, in 2 ms.
MAX_SEGMENTS = 64
MAX_INTEGERS = 1 << 14
LONGEST_INTEGER = 10  # bytes
LONGEST_LENGTH = 5  # bytes of a length, or of a field's number: the class reads no more, zeros or not

# Where typed elements lie, by dtype, and how they are written there.
TYPED: dict[int, tuple[str, int, int]] = {
    pb.DATA_TYPE_BOOL: ("bool_contents", 1, VARINT),
    pb.DATA_TYPE_INT8: ("int_contents", 2, VARINT),
    pb.DATA_TYPE_INT16: ("int_contents", 2, VARINT),
    pb.DATA_TYPE_INT32: ("int_contents", 2, VARINT),
    pb.DATA_TYPE_INT64: ("int64_contents", 3, VARINT),
    pb.DATA_TYPE_UINT8: ("uint_contents", 4, VARINT),
    pb.DATA_TYPE_FLOAT32: ("fp32_contents", 6, FIXED32),
    pb.DATA_TYPE_FLOAT64: ("fp64_contents", 7, FIXED64),
}
# As the class would read them: int32 and uint32 keep 32 bits of what was sent.
READ_AS: dict[int, type[np.generic]] = {2: np.int32, 3: np.int64, 4: np.uint32}


@dataclass(slots=True)
class SplitRequest:
    """An inference request: its message without contents, raw contents, and typed ones by the number of their input."""

    message: Any
    raw: Sequence[bytes | memoryview] = ()
    typed: dict[int, bytes | memoryview] = field(default_factory=dict)


def split_request(body: Body) -> SplitRequest:
    """The request of `body`. Raises InvalidRequest: MALFORMED_MESSAGE, TOO_MANY_FIELDS, REQUEST_TOO_LONG."""
    try:
        if len(body) < COUNTED_BYTES:
            message = ModelInferRequest.FromString(body)
            typed = {
                number: one.contents.SerializeToString()
                for number, one in enumerate(message.inputs)
                if one.HasField("contents")
            }
            return SplitRequest(message, message.raw_input_contents, typed)
        require_few_fields(REQUEST, body, COUNTED)
        view = memoryview(body)
        found = SplitRequest(None, [])
        rest = list(_without_contents(view, found))
        beside = sum(map(len, rest))
        if beside > MAX_BESIDE_BYTES:
            raise invalid(
                f"the request has {beside} bytes beside the contents of its tensors, at most {MAX_BESIDE_BYTES} are"
                " taken",
                "REQUEST_TOO_LONG",
                bytes=beside,
                bound=MAX_BESIDE_BYTES,
            )
        found.message = ModelInferRequest.FromString(b"".join(rest))
        return found
    except (DecodeError, _Malformed):
        raise malformed(REQUEST.full_name, len(body)) from None


def typed_elements(name: str, dtype: int, contents: bytes | memoryview) -> bytes | memoryview:
    """The elements of an InferTensorContents, as raw contents would have them. name: of the input.

    Raises InvalidRequest: floats of 16 bits have no field there, others have one each.
    """
    if dtype not in TYPED:
        raise _refused(name, "has a datatype that typed contents have no field for: send raw_input_contents")
    called, number, way = TYPED[dtype]
    segments: list[memoryview] = []
    try:
        for count, (found, kind, _, at, after) in enumerate(_fields(memoryview(contents))):
            if count >= MAX_SEGMENTS:
                raise _refused(name, f"has typed contents in more than {MAX_SEGMENTS} fields: pack {called} into one")
            if found != number or kind not in (LENGTH_DELIMITED, way):
                raise _refused(name, f"has typed contents in another field than {called}, where its datatype has them")
            segments.append(memoryview(contents)[at:after])
    except _Malformed:
        raise malformed("inference.InferTensorContents", len(contents)) from None
    packed = segments[0] if len(segments) == 1 else memoryview(b"".join(segments))
    if way != VARINT:
        return packed
    return _integers(name, dtype, number, packed)


def _integers(name: str, dtype: int, number: int, packed: memoryview) -> bytes:
    groups = np.frombuffer(packed, np.uint8) if len(packed) else np.empty(0, np.uint8)
    ends = np.flatnonzero(groups[: LONGEST_INTEGER * MAX_INTEGERS + 1] < 0x80)
    if len(ends) > MAX_INTEGERS or len(groups) > LONGEST_INTEGER * MAX_INTEGERS:
        raise _refused(
            name,
            f"has more than {MAX_INTEGERS} integers as typed contents: send them as raw_input_contents",
        )
    if len(groups) and groups[-1] >= 0x80:
        raise malformed("inference.InferTensorContents", len(packed))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1)) if len(ends) else ends
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > LONGEST_INTEGER:
        raise malformed("inference.InferTensorContents", len(packed))
    read: npt.NDArray[Any] = np.zeros(len(ends), np.uint64)
    for group in range(longest):
        more = lengths > group
        read[more] |= (groups[starts[more] + group] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * group)
    if dtype == pb.DATA_TYPE_BOOL:
        return bytes((read != 0).tobytes())
    whole = read.astype(READ_AS[number])
    to = STORAGE[dtype]
    bounds = np.iinfo(to)
    outside = (whole < bounds.min) | (whole > bounds.max)
    if outside.any():
        index = int(np.argmax(outside))
        raise invalid(
            f"{name} has {whole[index]} at flat index {index}, outside [{bounds.min}, {bounds.max}] of its datatype",
            "INTEGER_OUT_OF_RANGE",
            name,
            value=whole[index],
            index=index,
            lower=bounds.min,
            upper=bounds.max,
        )
    stored: bytes = whole.astype(to).tobytes()
    return stored


def _refused(name: str, why: str) -> InvalidRequest:
    return invalid(f"{name} {why}", "CONTENTS_NOT_TAKEN", name, input=name)


class _Malformed(Exception):
    """Bytes that are no message."""


def _without_contents(view: memoryview, found: SplitRequest) -> Iterator[bytes | memoryview]:
    """The message in pieces, without raw contents and those of its inputs, which go to `found`."""
    kept = inputs = 0
    raw: list[memoryview] = []
    for number, kind, first, at, after in _fields(view):
        if kind != LENGTH_DELIMITED or number not in (INPUTS, RAW):
            continue
        if number == RAW:
            raw.append(view[at:after])
            yield view[kept:first]
        else:
            pieces, contents = _input_without(view[at:after])
            inputs += 1
            if not contents:
                continue
            found.typed[inputs - 1] = contents[0] if len(contents) == 1 else b"".join(contents)
            yield view[kept:first]
            yield tag(INPUTS) + varint(sum(map(len, pieces)))
            yield from pieces
        kept = after
    found.raw = raw
    yield view[kept:]


def _input_without(view: memoryview) -> tuple[list[memoryview], list[memoryview]]:
    """An input's bytes without its contents, and those."""
    pieces, contents, kept = [], [], 0
    for number, kind, first, at, after in _fields(view):
        if number == CONTENTS and kind == LENGTH_DELIMITED:
            contents.append(view[at:after])
            pieces.append(view[kept:first])
            kept = after
    pieces.append(view[kept:])
    return pieces, contents


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, wire type, where the field starts, where its value does, where it ends) of each field. No groups."""
    at, end = 0, len(view)
    while at < end:
        first = at
        key, at = _varint(view, at, end, LONGEST_LENGTH)
        kind = key & 7
        if kind == LENGTH_DELIMITED:
            size, at = _varint(view, at, end, LONGEST_LENGTH)
            after = at + size
        elif kind == VARINT:
            after = _varint(view, at, end, LONGEST_INTEGER)[1]
        elif kind == FIXED64:
            after = at + 8
        elif kind == FIXED32:
            after = at + 4
        else:
            raise _Malformed
        if after > end or not 8 <= key < 1 << 32:
            raise _Malformed
        yield key >> 3, kind, first, at, after
        at = after


def _varint(view: memoryview, at: int, end: int, longest: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 7 * longest:
        group = view[at]
        at += 1
        value |= (group & 0x7F) << shift
        if group < 0x80:
            return value, at
        shift += 7
    raise _Malformed

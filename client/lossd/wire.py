"""Wire format of large tensors: their elements are neither parsed nor serialised, only placed.

`take_large_data` finds them in the bytes received and leaves all else to the generated class. It keeps to messages that
are plain (each step says what it needs); any other goes whole to the generated class, so that what a message means is
said in one place. `tensor_header` is what a writer joins before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from typing import TYPE_CHECKING, TypeAlias, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lossd.v1 import tensor_pb2 as pb

if TYPE_CHECKING:  # what a message's DESCRIPTOR is to its stubs
    from google._upb._message import Descriptor as MessageDescriptor

Path: TypeAlias = tuple[str, ...]

# Elements below this are copied by the generated class in less time than they are looked for.
LEAST_BYTES = 1 << 16
# What a message may have in all, so that looking through one costs microseconds; tens are usual.
MAX_FIELDS = 256
# The greatest that a generated class takes.
MAX_BYTES = 2**31 - 1
TENSOR = pb.Tensor.DESCRIPTOR
DATA = pb.Tensor.DATA_FIELD_NUMBER
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
WIDTHS: dict[int, int] = {
    pb.DATA_TYPE_BOOL: 1,
    pb.DATA_TYPE_UINT8: 1,
    pb.DATA_TYPE_INT8: 1,
    pb.DATA_TYPE_INT16: 2,
    pb.DATA_TYPE_INT32: 4,
    pb.DATA_TYPE_INT64: 8,
    pb.DATA_TYPE_FLOAT8_E4M3FN: 1,
    pb.DATA_TYPE_FLOAT8_E5M2: 1,
    pb.DATA_TYPE_FLOAT16: 2,
    pb.DATA_TYPE_BFLOAT16: 2,
    pb.DATA_TYPE_FLOAT32: 4,
    pb.DATA_TYPE_FLOAT64: 8,
}


def take_large_data(
    descriptor: Descriptor | MessageDescriptor, body: bytes | memoryview, least: int = LEAST_BYTES
) -> tuple[Message, dict[Path, memoryview]]:
    """The message of `body` without the elements of its large tensors, and those, as views of `body`.

    least: the bytes of `Tensor.data` from which on it is cut out. Views are keyed by the tensor's path: ("input",), or
    ("open", "cross_entropy", "input"). A message that is not plain, or has no such tensor, comes whole, with no views.
    Put back, the views make the message that the generated class makes of `body`; DecodeError is raised as it does.
    """
    descriptor = cast("Descriptor", descriptor)
    made = GetMessageClass(descriptor)
    if least <= len(body) <= MAX_BYTES and _steps(descriptor):
        knife = _Knife(body, least)
        try:
            rest = knife.without(descriptor, 0, len(body), ())
        except _NotPlain:
            return made.FromString(cast("bytes", body)), {}
        if knife.views:
            return made.FromString(b"".join(rest)), knife.views
    return made.FromString(cast("bytes", body)), {}


@lru_cache(maxsize=4096)
def tensor_header(field_number: int, dtype: int, shape: tuple[int, ...]) -> bytes:
    """All of a Tensor field up to its elements: its tag and length, dtype, shape, the tag and length of `data`."""
    size = prod(shape) * WIDTHS[dtype]
    message = pb.Tensor(dtype=dtype, shape=shape).SerializeToString()  # type: ignore[arg-type]  # enums are ints to us
    data = tag(DATA) + varint(size)
    return tag(field_number) + varint(len(message) + len(data) + size) + message + data


def message_field(number: int, body: bytes) -> bytes:
    """Field `number`, of a serialised message."""
    return tag(number) + varint(len(body)) + body


@cache
def tag(number: int) -> bytes:
    """Before the length of field `number`: a message's, or of bytes."""
    return varint(number << 3 | LENGTH_DELIMITED)


def varint(value: int) -> bytes:
    """Protobuf's base-128 number, lowest group first."""
    # Most are short: each of these saves half of the time.
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class _NotPlain(Exception):
    """The walk met what it leaves to the generated class."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A field on the way to a tensor's elements, or one that would displace it.

    name: "" for the latter and for the elements. message: what the walk goes into. place: equal for the fields of
    which a message holds one (the members of a oneof; a field and its repetition).
    """

    place: str
    name: str = ""
    message: Descriptor | None = None
    elements: bool = False


@cache
def _steps(descriptor: Descriptor) -> dict[int, _Step]:
    """By number, the fields of a message that matter to the walk; empty where none leads to a tensor."""
    steps: dict[int, _Step] = {}
    for field in descriptor.fields:
        if descriptor is TENSOR and field.number == DATA:
            steps[field.number] = _Step(_place(field), elements=True)
        elif field.message_type is not None and field.has_presence and _steps(field.message_type):  # not repeated
            steps[field.number] = _Step(_place(field), field.name, field.message_type)
    places = {step.place for step in steps.values()}
    for field in descriptor.fields:
        if field.number not in steps and _place(field) in places:
            steps[field.number] = _Step(_place(field))
    return steps


def _place(field: FieldDescriptor) -> str:
    return field.name if field.containing_oneof is None else field.containing_oneof.name


class _Knife:
    """One walk over `body`. `views` are the elements found so far, `fields` how many fields were met."""

    def __init__(self, body: bytes | memoryview, least: int) -> None:
        self.views: dict[Path, memoryview] = {}
        self._body = body
        self._least = least
        self._fields = 0

    def without(self, descriptor: Descriptor, start: int, end: int, path: Path) -> list[bytes | memoryview]:
        """The bytes of the message in body[start:end], in pieces, without the elements that are cut out of it.

        Not plain: no tag, length or number that is not the shortest varint, no end before a field's, no groups, not
        two fields of the same place where one of them holds what was cut, not more than MAX_FIELDS fields.
        """
        body = self._body
        steps = _steps(descriptor)
        met: dict[str, bool] = {}  # places, and whether the field there was cut
        pieces: list[bytes | memoryview] = []
        kept = at = start
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _NotPlain
            first = at
            key, at = self._varint(at, end)
            value, after = self._value(key, at, end)
            step = steps.get(key >> 3)
            if step is not None:
                pieces_of_field = self._field(step, key, value, after, path)
                was_cut = pieces_of_field is not None
                if step.place in met and (was_cut or met[step.place]):
                    raise _NotPlain
                met[step.place] = was_cut
                if pieces_of_field is not None:
                    pieces.append(body[kept:first])
                    if not step.elements:
                        pieces += body[first:at], varint(sum(map(len, pieces_of_field))), *pieces_of_field
                    kept = after
            at = after
        pieces.append(body[kept:end])
        return pieces

    def _field(self, step: _Step, key: int, start: int, end: int, path: Path) -> list[bytes | memoryview] | None:
        """What is left of a field's value, body[start:end], after cutting; None where nothing was cut."""
        if key & 7 != LENGTH_DELIMITED or end - start < self._least:
            return None
        if step.elements:
            self.views[path] = memoryview(self._body)[start:end]
            return []
        if step.message is None:
            return None
        found = len(self.views)
        pieces = self.without(step.message, start, end, (*path, step.name))
        return pieces if len(self.views) > found else None

    def _value(self, key: int, at: int, end: int) -> tuple[int, int]:
        """Where the value of the field with tag `key` starts, behind its length, and where it ends."""
        if not 8 <= key < 1 << 32:
            raise _NotPlain
        kind = key & 7
        if kind == VARINT:
            after = self._varint(at, end)[1]
        elif kind == LENGTH_DELIMITED:
            length, at = self._varint(at, end)
            after = at + length
        elif kind == FIXED64:
            after = at + 8
        elif kind == FIXED32:
            after = at + 4
        else:
            raise _NotPlain
        if after > end:
            raise _NotPlain
        return at, after

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number that starts at `at`, and where it ends: the shortest way to write it, below 2**64."""
        body = self._body
        value = shift = 0
        while at < end:
            group = body[at]
            at += 1
            value |= (group & 0x7F) << shift
            if group < 0x80:
                if value >> 64 or (shift and not group):
                    raise _NotPlain
                return value, at
            shift += 7
            if shift > 63:
                raise _NotPlain
        raise _NotPlain

"""Bytes that are messages, nearly: grown from a descriptor, with all that the wire allows and much that it does not."""

from __future__ import annotations

from typing import Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lossd.v1 import service_pb2, tensor_pb2
from lossd.wire import DATA, TENSOR, varint

# The messages that are cut: what servers and clients receive.
_RPCS = service_pb2.DESCRIPTOR.services_by_name["LossService"].methods
DESCRIPTORS: dict[str, Descriptor] = {
    kind.name: kind
    for kind in (tensor_pb2.Tensor.DESCRIPTOR, *(side for rpc in _RPCS for side in (rpc.input_type, rpc.output_type)))
}
VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
WIRE_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_STRING: LENGTH_DELIMITED,
    FieldDescriptor.TYPE_BYTES: LENGTH_DELIMITED,
    FieldDescriptor.TYPE_MESSAGE: LENGTH_DELIMITED,
}
DEPTH = 6


class Chooser(Protocol):
    """Where choices come from: hypothesis, or a fuzzer's bytes."""

    def below(self, bound: int) -> int:
        """A number in [0, bound)."""

    def bytes(self, length: int) -> bytes:
        """As many bytes, or fewer where there are no more."""


def message(chooser: Chooser, descriptor: Descriptor, depth: int = 0) -> bytes:
    """A message of some fields: those of `descriptor` as they should be, most of the time."""
    return b"".join(_field(chooser, descriptor, depth) for _ in range(chooser.below(6)))


def _field(chooser: Chooser, descriptor: Descriptor, depth: int) -> bytes:
    known = _known(chooser, descriptor)
    number = known.number if known is not None else 1 + chooser.below(20)
    kind = WIRE_TYPES.get(known.type, VARINT) if known is not None else chooser.below(8)
    if _rarely(chooser):
        kind = chooser.below(8)
    if _rarely(chooser):
        number = (0, 1, 2**28, 2**29 - 1, 2**29)[chooser.below(5)]
    return _varint(chooser, number << 3 | kind) + _value(chooser, kind, number, known, depth)


def _value(chooser: Chooser, kind: int, number: int, known: FieldDescriptor | None, depth: int) -> bytes:
    if kind == VARINT:
        return _varint(chooser, (0, 1, 127, 128, 2**31, 2**32, 2**64 - 1)[chooser.below(7)])
    if kind == FIXED64:
        return chooser.bytes(8)
    if kind == FIXED32:
        return chooser.bytes(4)
    if kind == START_GROUP:
        inside = b"".join(_field(chooser, TENSOR, depth + 1) for _ in range(chooser.below(3)) if depth < DEPTH)
        return inside + (b"" if _rarely(chooser) else varint(number << 3 | END_GROUP))
    if kind != LENGTH_DELIMITED:
        return b""
    if known is not None and known.message_type is not None and depth < DEPTH:
        body = message(chooser, known.message_type, depth + 1)
    else:
        body = chooser.bytes(chooser.below(40))
    length = len(body)
    if _rarely(chooser):
        length = (length + 1, max(0, length - 1), 0, 2**31 - 1, 2**31, 2**32, 2**64 - 1)[chooser.below(7)]
    return _varint(chooser, length) + body


def _known(chooser: Chooser, descriptor: Descriptor) -> FieldDescriptor | None:
    """A field of the message, one on the way to elements more often than not; seldom none."""
    if _rarely(chooser):
        return None
    fields = list(descriptor.fields)
    if chooser.below(2):
        fields = [field for field in fields if field.number == DATA or field.message_type is not None] or fields
    return fields[chooser.below(len(fields))] if fields else None


def _varint(chooser: Chooser, value: int) -> bytes:
    """Seldom longer than it need be."""
    written = varint(value)
    if not _rarely(chooser):
        return written
    return written[:-1] + bytes([written[-1] | 0x80]) + b"\x80" * chooser.below(10) + b"\0"


def _rarely(chooser: Chooser) -> bool:
    return chooser.below(24) == 7

"""Result entries: where in a message of many results each of them lies. Pure: only tags and lengths are read."""

from __future__ import annotations

from typing import TypeAlias

from lossd import wire
from lossd.v1 import service_pb2

# Of an EvaluationResult: its evaluation's number, the tag of its response, the byte at which it starts, those at which
# its response starts and ends.
Entry: TypeAlias = tuple[int, int, int, int, int]

_RESULTS = wire.tag(service_pb2.StreamResponse.DESCRIPTOR.fields_by_name["results"].number)[0]
_ENTRY = wire.tag(service_pb2.EvaluationResults.DESCRIPTOR.fields_by_name["results"].number)[0]
_NUMBER = service_pb2.EvaluationResult.DESCRIPTOR.fields_by_name["evaluation_id"].number << 3
# Longer varints are for the generated classes: numbers and lengths have up to 28 bits here.
_MOST_GROUPS = 4


def results_of(body: bytes) -> list[Entry] | None:
    """The results in a StreamResponse; None where it has none, or is not plain: the generated classes take it then.

    Plain is a message of `results` alone, of which each is a number and a response, in this order and nothing else.
    """
    try:
        if body[0] != _RESULTS:
            return None
        size, at = _varint(body, 1)
        if at + size != len(body):
            return None
        entries: list[Entry] = []
        while at < len(body):
            size = body[at + 1]
            if body[at] != _ENTRY:
                return None
            at += 2
            if size > 0x7F:
                size, at = _varint(body, at - 1)
            end = at + size
            number = body[at + 1]
            if body[at] != _NUMBER:
                return None
            start = at + 2
            if number > 0x7F:
                number, start = _varint(body, at + 1)
            tag, size = body[start], body[start + 1]
            start += 2
            if size > 0x7F:
                size, start = _varint(body, start - 1)
            # A tag of one byte, of a length-delimited field.
            if start + size != end or end > len(body) or tag > 0x7F or tag & 7 != wire.LENGTH_DELIMITED:
                return None
            entries.append((number, tag, at, start, end))
            at = end
    except IndexError:
        return None
    return entries


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number at that byte, and the byte behind it. IndexError where it is no short one."""
    value = shift = 0
    for group in body[at : at + _MOST_GROUPS]:
        at += 1
        value |= (group & 0x7F) << shift
        if group <= 0x7F:
            return value, at
        shift += 7
    raise IndexError

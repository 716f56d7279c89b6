"""Walk over a message of Opens, by compiled code: where each request lies, without making objects of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import service_pb2 as pb
from lossd_server.backends.numba.simd.memory import load_one
from lossd_server.jobs.jit import device_function, njit

OPENS = pb.StreamRequest.DESCRIPTOR.fields_by_name["opens"].number << 3 | 2
OPEN = pb.Opens.DESCRIPTOR.fields_by_name["opens"].number << 3 | 2
EVALUATION_ID = pb.Open.DESCRIPTOR.fields_by_name["evaluation_id"].number << 3
REQUESTS = [field.number for field in pb.Open.DESCRIPTOR.oneofs_by_name["request"].fields]
FIRST, LAST = min(REQUESTS), max(REQUESTS)
MOST_SHIFT = 56  # of a varint: numbers beyond 62 bits are left to the generated class
ID, NUMBER, BEGIN, END = range(4)  # of a row: the evaluation, the field of its request, where that lies
NOT_PLAIN = -1
LONGEST_LENGTH = 5  # bytes: the generated class reads no more, zeros or not


@device_function
def byte_at(at: int) -> Any:
    return np.int64(load_one(at, np.uint8(0)))


@device_function
def varint_at(at: int, end: int) -> tuple[int, int]:
    """A number, and where it ends; −1 where it does not end before `end`, or is too large."""
    value = shift = 0
    while at < end and shift <= MOST_SHIFT:
        byte = byte_at(at)
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, -1


@device_function
def field_at(at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of a length-prefixed field begins, and where it ends: −1 where another field is there, or it
    is not whole."""
    if at >= end or byte_at(at) != tag:
        return at, -1
    size, begin = varint_at(at + 1, end)
    if begin < 0 or size > end - begin or begin - at > 1 + LONGEST_LENGTH:
        return at, -1
    return begin, begin + size


@njit
def walk(first: int, size: int, rows: npt.NDArray[np.int64]) -> Any:
    """Fills a row for each Open of a StreamRequest of `size` bytes at address `first`; how many.

    NOT_PLAIN where it is anything else, has more than there are rows, or is written in an unusual way.
    """
    end = first + size
    at, stop = field_at(first, end, OPENS)
    if stop != end:
        return NOT_PLAIN
    count = 0
    while at < end:
        at, stop = field_at(at, end, OPEN)
        if stop < 0 or count == rows.shape[0]:
            return NOT_PLAIN
        evaluation_id = 0
        if at < stop and byte_at(at) == EVALUATION_ID:
            evaluation_id, at = varint_at(at + 1, stop)
            if at < 0:
                return NOT_PLAIN
        if at >= stop:
            return NOT_PLAIN
        tag = byte_at(at)
        begin, finish = field_at(at, stop, tag)
        if tag & 7 != 2 or tag >> 3 < FIRST or tag >> 3 > LAST or finish != stop:
            return NOT_PLAIN
        row = rows[count]
        row[ID], row[NUMBER], row[BEGIN], row[END] = evaluation_id, tag >> 3, begin - first, finish - first
        count += 1
        at = stop
    return count


def warm_up() -> None:
    """Compiles, or loads, the functions above."""
    walk(0, 0, np.empty((0, 4), np.int64))

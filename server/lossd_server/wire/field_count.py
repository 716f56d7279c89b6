"""Field count: how many fields a message has, counted over its bytes before a parser makes objects of them.

A field of two bytes becomes an object of fifty and more, so that the size of a message says little of what it costs to
parse. The walk knows the contract: it goes into the messages there are, counts the numbers of packed fields, and steps
over all else. It is compiled, and stops at the bound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lossd.v1 import service_pb2
from lossd_server.call.contract import Body
from lossd_server.errors import InvalidRequest, invalid
from lossd_server.jobs.jit import device_function, njit

# A message below this holds too few to be worth a walk.
COUNTED_BYTES = 1 << 12
# A request has about twenty: tensors of at most 8 dimensions, options, eight placements at most.
MAX_REQUEST_FIELDS = 1 << 10
# As many Opens as a stream may have at once, with all their fields.
MAX_STREAM_FIELDS = 1 << 17

# What is done about a field: its value is stepped over, or holds packed numbers; from MESSAGES on, it is a message.
STEP_OVER, PACKED, MESSAGES = range(3)
NUMBERS = 32  # of fields that may hold either; `Tensor.data` alone has a higher one
MOST_DEEP = 16
FAULTY = -1


class FieldTable:
    """What the walk knows of the messages that may lie in `roots`. kinds: their numbers. table: by kind of message and
    number of field, what is done about it. stepped_over: fields by full name, whatever they hold."""

    def __init__(self, roots: Iterable[Descriptor], stepped_over: Collection[str] = ()) -> None:
        reached = dict.fromkeys(message for root in roots for message in _reached(root, []))
        self.kinds: dict[Descriptor, int] = {message: kind for kind, message in enumerate(reached)}
        self.table = np.zeros((len(self.kinds), NUMBERS), np.int64)
        for message, kind in self.kinds.items():
            for field in message.fields:
                action = STEP_OVER if field.full_name in stepped_over else self._action(field)
                if action:
                    self.table[kind, field.number] = action

    def _action(self, field: FieldDescriptor) -> int:
        if field.message_type is not None:
            return MESSAGES + self.kinds[field.message_type]
        return PACKED if field.is_repeated and field.cpp_type != FieldDescriptor.CPPTYPE_STRING else STEP_OVER


def _reached(start: Descriptor, found: list[Descriptor]) -> list[Descriptor]:
    """The messages that may lie in `start`, itself first."""
    if start not in found:
        found.append(start)
        for field in start.fields:
            if field.message_type is not None:
                _reached(field.message_type, found)
    return found


OF_LOSSES = FieldTable(method.input_type for method in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods)
STREAM_REQUEST = service_pb2.StreamRequest.DESCRIPTOR


def require_few_fields(message: Descriptor, body: Body, known: FieldTable = OF_LOSSES) -> None:
    """Raises InvalidRequest for a message of more fields than any sender needs. message: what `body` is said to be."""
    if len(body) < COUNTED_BYTES:
        return
    bound = MAX_STREAM_FIELDS if message is STREAM_REQUEST else MAX_REQUEST_FIELDS
    count, kind, number = count_fields(
        np.frombuffer(memoryview(body).toreadonly(), np.uint8), known.table, known.kinds[message], bound
    )
    if count > bound:
        raise too_many_fields(message, bound, list(known.kinds)[kind].fields_by_number.get(number))


def too_many_fields(message: Descriptor, bound: int, field: FieldDescriptor | None) -> InvalidRequest:
    """field: the one at which the count went beyond the bound."""
    name = "an unknown field" if field is None else field.name
    return invalid(
        f"the message has more than {bound} fields, which is more than a {message.name} needs; the count was exceeded"
        f" at {name}",
        "TOO_MANY_FIELDS",
        "" if field is None else name,
        bound=bound,
        name=name,
    )


def warm_up() -> None:
    """Compiles or loads the walk."""
    require_few_fields(STREAM_REQUEST, bytes(COUNTED_BYTES))


@device_function
def number_at(body: Any, at: int, end: int) -> Any:
    """The number at `at`, and where it ends; FAULTY where it does not."""
    value = np.uint64(0)
    for group in range(10):
        if at >= end:
            return value, FAULTY
        byte = body[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(7 * group)
        if byte < 0x80:
            return value, at
    return value, FAULTY


@device_function
def signed(number: Any) -> Any:
    """A number that is small enough: with int64, uint64 would become a float."""
    return np.int64(number)


@njit
def count_fields(body: Any, table: Any, kind: int, most: int) -> tuple[int, int, int]:
    """(fields, kind of the message and number of the last one); a little over `most` at most, and up to a fault.

    A parser makes nothing of what lies behind a fault. Within a group, which no field here is, all is counted.
    """
    ends, kinds = np.empty(MOST_DEEP, np.int64), np.empty(MOST_DEEP, np.int64)
    depth = count = at = number = 0
    ends[0], kinds[0] = len(body), kind
    while True:
        while at >= ends[depth]:
            if not depth:
                return count, kinds[0], number
            depth -= 1
        end = ends[depth]
        key, at = number_at(body, at, end)
        number = signed(key >> np.uint64(3))
        count += 1
        if at == FAULTY or count > most:
            return count, kinds[depth], number
        way = key & np.uint64(7)
        if way == 0:
            _, at = number_at(body, at, end)
        elif way == 1:
            at += 8
        elif way == 5:
            at += 4
        elif way == 2:
            size, at = number_at(body, at, end)
            if at == FAULTY or size > np.uint64(end - at):
                return count, kinds[depth], number
            after = at + signed(size)
            action = table[kinds[depth], number] if number < NUMBERS else STEP_OVER
            if action >= MESSAGES and depth + 1 < MOST_DEEP:
                depth += 1
                ends[depth], kinds[depth] = after, action - MESSAGES
                continue
            if action == PACKED:
                while at < after:
                    count += body[at] < 0x80
                    at += 1
                    if count > most:
                        return count, kinds[depth], number
            at = after
        elif way > 4:
            return count, kinds[depth], number
        if at == FAULTY:
            return count, kinds[depth], number

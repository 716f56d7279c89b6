"""Protobuf fields, written by compiled code at raw addresses."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossd_server.backends.numba.simd.memory import load_one, store_one
from lossd_server.jobs.jit import device_function


@device_function
def loss_of(at: int, value: float, single: bool) -> None:
    if single:
        store_one(at, np.float32(value))
    else:
        store_one(at, value)


@device_function
def message_field_header(at: int, tag: int, end: int) -> int:
    """A message field around what lies from at + 2 to `end`, under 128 bytes."""
    store_one(at, np.uint8(tag))
    store_one(at + 1, np.uint8(end - at - 2))
    return end


@device_function
def double_field(at: int, number: int, value: float) -> int:
    """A double field, left out where it is zero, as protobuf does; where the next one goes."""
    store_one(at, np.uint8(number << 3 | 1))
    store_one(at + 1, value)
    return at + 9 if load_one(at + 1, np.int64(0)) != 0 else at


@device_function
def varint_field(at: int, number: int, value: int) -> Any:
    """An int64 field that is not negative, left out where it is zero."""
    if value == 0:
        return at
    store_one(at, np.uint8(number << 3))
    at += 1
    while value > 0x7F:
        store_one(at, np.uint8(value & 0x7F | 0x80))
        value >>= 7
        at += 1
    store_one(at, np.uint8(value))
    return at + 1

"""Compiled prologue and epilogue of a planned request (`plan`): its numbers in; sums and the rest of its answer out.

Both do what `evaluate` and `codec.encode` do, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba.simd.memory import copy_bytes, load_one, pointer, store_one, zero_bytes
from lossd_server.jobs.jit import device_function, njit
from lossd_server.jobs.reduction import MOST_FLOAT32, kept_classes, ordered_sum, whole
from lossd_server.tensors.array import address_of
from lossd_server.wire import codec

INT8, INT16, INT32 = int(pb.DATA_TYPE_INT8), int(pb.DATA_TYPE_INT16), int(pb.DATA_TYPE_INT32)
UINT8 = int(pb.DATA_TYPE_UINT8)
SUMMARY, TIMING = codec.SUMMARY << 3 | 2, codec.TIMING << 3 | 2
NO_LOSS, SCALAR, BY_ROW = range(3)  # what `leave` writes of the loss
# Addresses (0: none), offsets in the request's bytes, counts.
PLAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            "input",
            "input_at",
            "input_bytes",
            "target",
            "target_at",
            "target_bytes",
            "target_dtype",
            "by_class",
            "by_mean",  # the denominator is the weight of the classes kept
            "rows",
            "classes",
            "ignore_index",
            "class_weight",
            "class_weights",
            "row_weight",
            "row_weights",
            "scale",
            "cleared",
            "cleared_bytes",
            "sums",
            "sums_count",
            "loss",
            "loss_kind",
            "single",  # 1: the loss is float32
            "answer",
            "end",  # where the summary goes
            "count",
            "batch_rows",
        )
    ]
    + [(name, np.float64) for name in ("upstream", "log_base", "weight_sum", "divisor")]
)


@njit
def store_number(at: int, value: float) -> None:
    store_one(at, value)


@device_function
def label(at: int, row: int, dtype: int) -> Any:
    """The class index of a row, of any integer dtype."""
    if dtype == INT32:
        return np.int64(load_one(at + 4 * row, np.int32(0)))
    if dtype == INT16:
        return np.int64(load_one(at + 2 * row, np.int16(0)))
    if dtype == INT8:
        return np.int64(load_one(at + row, np.int8(0)))
    if dtype == UINT8:
        return np.int64(load_one(at + row, np.uint8(0)))
    return load_one(at + 8 * row, np.int64(0))


@njit
def enter(plans: Any, start: int) -> bool:
    """Brings the numbers in from the request's bytes at `start`, and sets the scale where they tell the denominator.

    False where that is not plain.
    """
    plan = plans[0]
    copy_bytes(plan.input, start + plan.input_at, plan.input_bytes)
    if plan.cleared_bytes:
        zero_bytes(plan.cleared, plan.cleared_bytes)
    if not plan.by_class:
        if plan.target:
            copy_bytes(plan.target, start + plan.target_at, plan.target_bytes)
        return True
    for row in range(plan.rows):
        store_one(plan.target + 8 * row, label(start + plan.target_at, row, plan.target_dtype))
    wrong, total, lost, count = kept_classes(
        carray(pointer(plan.target, np.int64(0)), (plan.rows,)),
        plan.ignore_index,
        plan.classes,
        carray(pointer(plan.class_weight, 0.0), (plan.class_weights,)),
        carray(pointer(plan.row_weight, 0.0), (plan.row_weights,)),
        0.0,
        0.0,
    )
    weight_sum = whole(total, lost)
    if wrong >= 0 or count == 0 or weight_sum == 0.0:
        return False
    plan.weight_sum = weight_sum
    plan.count = count
    if plan.by_mean:
        plan.divisor = weight_sum
        scale = plan.upstream / weight_sum / plan.log_base
        store_one(plan.scale, scale)
        return not (plan.single and MOST_FLOAT32 < abs(scale) < np.inf)
    return True


@njit
def leave(plans: Any, took_ns: int) -> Any:
    """Writes what depends on the sum of losses, and the timing; the response's bytes."""
    plan = plans[0]
    at = plan.end
    if plan.sums:
        sums = carray(pointer(plan.sums, 0.0), (plan.sums_count,))
        loss_sum = ordered_sum(sums, 0.0) / plan.log_base
        if plan.loss_kind == SCALAR:
            loss_of(plan.loss, loss_sum / plan.divisor, plan.single)
        elif plan.loss_kind == BY_ROW:
            for row in range(plan.sums_count):
                loss_of(plan.loss + (4 if plan.single else 8) * row, sums[row] / plan.log_base, plan.single)
        inside = double_field(double_field(at + 2, 1, loss_sum), 2, plan.weight_sum)
        at = message_field_header(at, SUMMARY, varint_field(inside, 3, plan.count))
    inside = varint_field(at + 2, 2, took_ns)
    at = message_field_header(at, TIMING, varint_field(varint_field(inside, 3, 1), 4, plan.batch_rows))
    return at - plan.answer


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


def warm_up() -> None:
    """Compiles, or loads, the functions above."""
    answer = np.zeros(codec.SUMMARY_BYTES + codec.TIMING_BYTES, np.uint8)
    plan = np.zeros(1, PLAN)
    plan["answer"] = plan["end"] = address_of(answer)
    enter(plan, address_of(answer))
    leave(plan, 0)
    store_number(address_of(answer), 0.0)

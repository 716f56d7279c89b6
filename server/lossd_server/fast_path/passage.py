"""Compiled prologue and epilogue of a burst of planned requests (`plan`): where their numbers lie, into the kernels'
table; sums and the rest of their answers out.

Both do what `evaluate` and `codec.encode` do, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba.batch_table import PIECE, RECORD
from lossd_server.backends.numba.simd.memory import (
    copy_bytes,
    load_one,
    pointer,
    store_one,
    untyped_pointer,
    zero_bytes,
)
from lossd_server.engine.batch_counts import counts_at, observe_batch, observe_planned
from lossd_server.fast_path.protobuf_fields import double_field, loss_of, message_field_header, varint_field
from lossd_server.jobs.jit import device_function, njit
from lossd_server.jobs.reduction import MOST_FLOAT32, kept_classes, ordered_sum, whole
from lossd_server.tensors.array import address_of
from lossd_server.wire import codec

INT8, INT16, INT32 = int(pb.DATA_TYPE_INT8), int(pb.DATA_TYPE_INT16), int(pb.DATA_TYPE_INT32)
UINT8 = int(pb.DATA_TYPE_UINT8)
SUMMARY, TIMING = codec.SUMMARY << 3 | 2, codec.TIMING << 3 | 2
NO_LOSS, SCALAR, BY_ROW = range(3)  # what `leave` writes of the loss
NOWHERE = -1
PARTS = 3  # of an answer's bytes that are the same in every answer: what comes before its tensors' elements
RECORD_BYTES = RECORD.itemsize
INPUT, TARGET, LOSSES, SUMS, INPUT_GRADIENT, TARGET_GRADIENT, VALUES, SCALE = (
    int(RECORD.fields[name][1])  # type: ignore[index]  # of a record's fields
    for name in (
        "input",
        "target",
        "losses",
        "chunk_sums",
        "input_gradient",
        "target_gradient",
        "values",
        "scale",
    )
)
# Addresses; counts; and what ends in _at: offsets in the request's bytes, in the answer or in the working memory, or
# NOWHERE.
PLAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            "record",
            "units",
            "input_at",
            "target_at",
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
            "labels_at",  # in the working memory: the classes, as int64
            "sums_at",  # in the working memory: what is added up
            "sums_count",
            "sums_field",  # of the record
            "work_bytes",
            "losses_at",  # in the answer, where they go there, as the four below
            "input_gradient_at",
            "target_gradient_at",
            "values_at",
            "loss_at",
            "loss_kind",
            "single",  # 1: the loss is float32
            "cleared_bytes",  # of the input's gradient
            "end_at",  # where the summary goes
            "answer_bytes",
            "answer",
            "count",
            "batch_rows",
            "loss",  # its place among the losses that metrics tell apart
        )
    ]
    + [("part_at", np.int64, (PARTS,)), ("part_bytes", np.int64, (PARTS,))]
    + [(name, np.float64) for name in ("upstream", "log_base", "weight_sum", "divisor")]
)
# Of a burst: addresses and sizes of its memory. `asked` has (plan, request) a request, `places` (begin, bytes); `count`
# and `rows` are what was brought in. counts: a row of `batch_counts.COUNTS`, 0 where nobody counts.
ROOM = np.dtype(
    [
        (name, np.int64)
        for name in (
            "asked",
            "places",
            "states",
            "records",
            "pieces",
            "work",
            "work_bytes",
            "answers",
            "answers_bytes",
            "counts",
            "count",
            "rows",
        )
    ]
)
# Of one request on its way; piece: NOWHERE where it is not plain.
STATE = np.dtype(
    [(name, np.int64) for name in ("piece", "sums", "answer", "count")]
    + [(name, np.float64) for name in ("weight_sum", "divisor")]
)


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


@device_function
def plan_at(at: int) -> Any:
    return carray(untyped_pointer(at), (1,), PLAN)[0]


@device_function
def put(record: int, field: int, base: int, at: int) -> None:
    """An address in a record's field, where there is one."""
    if at != NOWHERE:
        store_one(record + field, base + at)


@device_function
def enter_one(plan: Any, request: int, record: int, work: int, answer: int, state: Any) -> bool:
    """False where the request is not plain."""
    copy_bytes(record, plan.record, RECORD_BYTES)
    store_one(record + INPUT, request + plan.input_at)
    put(record, TARGET, request, plan.target_at)
    put(record, plan.sums_field, work, plan.sums_at)
    put(record, LOSSES, answer, plan.losses_at)
    put(record, INPUT_GRADIENT, answer, plan.input_gradient_at)
    put(record, TARGET_GRADIENT, answer, plan.target_gradient_at)
    put(record, VALUES, answer, plan.values_at)
    state.answer = answer
    state.sums = work + plan.sums_at
    state.count = plan.count
    state.weight_sum = plan.weight_sum
    state.divisor = plan.divisor
    if plan.by_class:
        labels = work + plan.labels_at
        for row in range(plan.rows):
            store_one(labels + 8 * row, label(request + plan.target_at, row, plan.target_dtype))
        store_one(record + TARGET, labels)
        wrong, total, lost, count = kept_classes(
            carray(pointer(labels, np.int64(0)), (plan.rows,)),
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
        state.weight_sum = weight_sum
        state.count = count
        if plan.by_mean:
            state.divisor = weight_sum
            scale = plan.upstream / weight_sum / plan.log_base
            if plan.single and MOST_FLOAT32 < abs(scale) < np.inf:
                return False
            store_one(record + SCALE, scale)
    for part in range(PARTS):
        at = plan.part_at[part]
        copy_bytes(answer + at, plan.answer + at, plan.part_bytes[part])
    if plan.cleared_bytes:
        zero_bytes(answer + plan.input_gradient_at, plan.cleared_bytes)
    return True


@njit
def enter(room_at: int, count: int) -> Any:
    """Brings in the first requests of `count`: as many as there is memory for (`room.count`). How many of them are
    plain, each of which has a piece."""
    room = carray(untyped_pointer(room_at), (1,), ROOM)[0]
    states = carray(untyped_pointer(room.states), (count,), STATE)
    pieces = carray(untyped_pointer(room.pieces), (count,), PIECE)
    work, answer = room.work, room.answers
    plain = rows = 0
    for i in range(count):
        plan = plan_at(load_one(room.asked + 16 * i, np.int64(0)))
        if (
            work + plan.work_bytes > room.work + room.work_bytes
            or answer + plan.answer_bytes > room.answers + room.answers_bytes
        ):
            count = i
            break
        state = states[i]
        state.piece = NOWHERE
        request = load_one(room.asked + 16 * i + 8, np.int64(0))
        if not enter_one(plan, request, room.records + RECORD_BYTES * plain, work, answer, state):
            continue
        piece = pieces[plain]
        piece.job = plain
        piece.begin = 0
        piece.end = plan.units
        piece.fault = -1
        state.piece = plain
        plain += 1
        rows += plan.batch_rows
        work += plan.work_bytes
        answer += plan.answer_bytes
    room.count = count
    room.rows = rows
    return plain


@njit
def leave(room_at: int, plain: int, took_ns: int) -> None:
    """Writes what depends on the sums of losses, and the timing; and where each answer lies in the memory of answers,
    of 0 bytes where there is none. Counts the batch, and what it answers."""
    room = carray(untyped_pointer(room_at), (1,), ROOM)[0]
    if room.counts:
        observe_batch(counts_at(room.counts), plain, room.rows)
    states = carray(untyped_pointer(room.states), (room.count,), STATE)
    pieces = carray(untyped_pointer(room.pieces), (room.count,), PIECE)
    for i in range(room.count):
        state = states[i]
        size = 0
        if state.piece >= 0 and pieces[state.piece].fault < 0:
            plan = plan_at(load_one(room.asked + 16 * i, np.int64(0)))
            size = leave_one(plan, state, plain, room.rows, took_ns)
            if room.counts:
                observe_planned(counts_at(room.counts), plan.loss, took_ns)
        store_one(room.places + 16 * i, state.answer - room.answers)
        store_one(room.places + 16 * i + 8, size)


@device_function
def leave_one(plan: Any, state: Any, requests: int, rows: int, took_ns: int) -> Any:
    """The bytes of its answer."""
    at = state.answer + plan.end_at
    if plan.sums_count:
        sums = carray(pointer(state.sums, 0.0), (plan.sums_count,))
        loss_sum = ordered_sum(sums, 0.0) / plan.log_base
        loss = state.answer + plan.loss_at
        if plan.loss_kind == SCALAR:
            loss_of(loss, loss_sum / state.divisor, plan.single)
        elif plan.loss_kind == BY_ROW:
            for row in range(plan.sums_count):
                loss_of(loss + (4 if plan.single else 8) * row, sums[row] / plan.log_base, plan.single)
        inside = double_field(double_field(at + 2, 1, loss_sum), 2, state.weight_sum)
        at = message_field_header(at, SUMMARY, varint_field(inside, 3, state.count))
    inside = varint_field(at + 2, 2, took_ns)
    at = message_field_header(at, TIMING, varint_field(varint_field(inside, 3, requests), 4, rows))
    return at - state.answer


def warm_up() -> None:
    """Compiles, or loads, the functions above."""
    answers = np.zeros(codec.SUMMARY_BYTES + codec.TIMING_BYTES, np.uint8)
    plan, rooms, states = np.zeros(1, PLAN), np.zeros(1, ROOM), np.zeros(1, STATE)
    asked, places, record = np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(1, RECORD)
    asked[0] = address_of(plan)
    plan["record"] = rooms["records"] = address_of(record)
    for name in ("losses_at", "input_gradient_at", "target_gradient_at", "values_at", "target_at", "sums_at"):
        plan[name] = NOWHERE
    rooms["asked"], rooms["places"], rooms["answers"] = address_of(asked), address_of(places), address_of(answers)
    pieces = np.zeros(1, PIECE)
    rooms["states"], rooms["pieces"] = address_of(states), address_of(pieces)
    leave(address_of(rooms), enter(address_of(rooms), 1), 0)

"""Stream responses: the bytes of StreamResponse messages. Elements are copied once, into them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from lossd.wire import message_field, tag, varint
from lossd_server.call.contract import Message, ServerCall
from lossd_server.errors import ServerError
from lossd_server.jobs.job import Answer, Job, Reduction
from lossd_server.jobs.stacks import StackSums
from lossd_server.wire import codec, status

# Numbers of fields: of StreamResponse, of BlockResult; every message that names its evaluation does so in its first.
BLOCK, RESULT, FAILURE, RESULTS = 1, 2, 3, 4
LOSS, INPUT_GRADIENT, TARGET_GRADIENT, OUTPUTS = 3, 4, 5, 6
EVALUATION_ID = varint(1 << 3)
FIRST_ITEM = varint(2 << 3)
FAILED = 10  # of EvaluationResult
# A Failure is under 4 KiB; ids, first_item, tags and lengths are far less.
OVERHEAD_BYTES = 64


def block(evaluation_id: int, first_item: int, answer: Answer) -> Message:
    """A StreamResponse with what was asked for by row or item of a part; empty where nothing was."""
    job = answer.job
    found: list[Any] = []
    if job.reducing.reduction is Reduction.NONE:
        found += codec.loss_field(LOSS, job, answer.loss)
    if answer.input_gradient is not None:
        found += codec.gradient_field(INPUT_GRADIENT, job.input, answer.input_gradient)
    if answer.target_gradient is not None and job.target is not None:
        found += codec.gradient_field(TARGET_GRADIENT, job.target, answer.target_gradient)
    if job.outputs:
        found += codec.outputs_field(OUTPUTS, answer)
    if not found:
        return b""
    head = [EVALUATION_ID, varint(evaluation_id), FIRST_ITEM, varint(first_item)]
    return stream_response(BLOCK, head + found)


def block_bytes(job: Job) -> int:
    """Bytes that `block` has at most, known before the part is computed."""
    return codec.response_bytes(job) + OVERHEAD_BYTES


def result_fields(evaluation_id: int, number: int, response: list[Any]) -> list[Any]:
    """The pieces of an EvaluationResult; number: of the response's field, which is its request's in Open."""
    return [EVALUATION_ID, varint(evaluation_id), tag(number), varint(sum(map(_size, response))), *response]


def stacked_results(
    evaluation_ids: Sequence[int], number: int, answer: Answer, queue_ns: int, compute_ns: int, requests: int, rows: int
) -> list[bytes]:
    """An EvaluationResult for each request of a stack. Their responses differ in their numbers only."""
    stacked: StackSums = answer.carry
    stack, each = stacked.stack, stacked.stack.each
    count = len(evaluation_ids)
    timing = pb.EntropyResponse(
        timing=loss_pb2.Timing(queue_ns=queue_ns, compute_ns=compute_ns, batch_requests=requests, batch_rows=rows)
    )
    tail = varint(3 << 3) + varint(stack.kept)
    columns: list[Any] = [*codec.loss_field(codec.LOSS, each, answer.loss)]
    if answer.input_gradient is not None:
        columns += codec.gradient_field(codec.INPUT_GRADIENT, each.input, answer.input_gradient)
    if answer.target_gradient is not None and each.target is not None:
        columns += codec.gradient_field(codec.TARGET_GRADIENT, each.target, answer.target_gradient)
    columns += [tag(codec.SUMMARY) + varint(18 + len(tail)) + varint(1 << 3 | 1), stacked.loss_sums.data]
    columns += [varint(2 << 3 | 1) + struct.pack("<d", stack.weight_sum) + tail + timing.SerializeToString()]
    bodies = _rows(columns, count)
    size = len(bodies) // count
    head = tag(number) + varint(size)
    return [
        b"".join((EVALUATION_ID, varint(one), head, bodies[size * place : size * (place + 1)]))
        for place, one in enumerate(evaluation_ids)
    ]


def _rows(columns: list[Any], count: int) -> bytes:
    """Rows one after the other: a column of bytes is in each row, one of a memoryview has the same share for each."""
    shares = [
        np.frombuffer(column, np.uint8) if isinstance(column, bytes) else _bytes_of(column).reshape(count, -1)
        for column in columns
    ]
    table = np.empty((count, sum(share.shape[-1] for share in shares)), np.uint8)
    at = 0
    for share in shares:
        table[:, at : at + share.shape[-1]] = share
        at += share.shape[-1]
    return table.tobytes()


def _bytes_of(column: memoryview) -> npt.NDArray[np.uint8]:
    return np.asarray(column).reshape(-1).view(np.uint8)


def failure(evaluation_id: int, error: ServerError, call: ServerCall) -> bytes:
    """A Failure: what a unary call's status would have said. call: the stream's, in whose record it is noted."""
    if call.record is not None:
        call.record.evaluation_failed(error.reason)
    said = status.status(error, call.request_id)
    return pb.Failure(
        evaluation_id=evaluation_id, code=said.code, message=said.message, details=said.details
    ).SerializeToString()


def failed_result(evaluation_id: int, error: ServerError, call: ServerCall) -> bytes:
    """An EvaluationResult that says so."""
    said = failure(evaluation_id, error, call)
    return b"".join([EVALUATION_ID, varint(evaluation_id), message_field(FAILED, said)])


def stream_response(number: int, pieces: list[Any]) -> Message:
    """The StreamResponse of field `number`, whose own bytes are given in pieces."""
    return codec.in_parts([tag(number), varint(sum(map(_size, pieces))), *pieces])


def results(of: Iterable[bytes], most: int) -> Iterator[Message]:
    """StreamResponses of EvaluationResults, in order, each of at most `most` bytes where one result is."""
    pieces: list[bytes] = []
    size = 0
    for one in of:
        if pieces and size + len(one) + OVERHEAD_BYTES > most:
            yield stream_response(RESULTS, pieces)
            pieces, size = [], 0
        piece = message_field(1, one)
        pieces.append(piece)
        size += len(piece)
    if pieces:
        yield stream_response(RESULTS, pieces)


def _size(piece: Any) -> int:
    """Bytes of a bytes object, or of a memoryview of any element."""
    return len(piece) if isinstance(piece, bytes) else piece.nbytes

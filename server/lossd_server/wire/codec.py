"""Codec: bytes of the wire to request messages, and answers to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any, cast

import numpy.typing as npt
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.message_factory import GetMessageClass

from lossd.contract import gradient_dtype
from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from lossd.wire import LEAST_BYTES, WIDTHS, Path, message_field, tag, take_large_data, tensor_header, varint
from lossd_server.call.contract import Body, Message
from lossd_server.errors import malformed
from lossd_server.jobs.job import Answer, Job, Reduction
from lossd_server.tensors import request_fields
from lossd_server.tensors.array import Array
from lossd_server.tensors.dtypes import DATA_TYPE
from lossd_server.tensors.request_fields import Fields, SharedMemoryRef
from lossd_server.wire.field_count import STREAM_REQUEST, require_few_fields

METHODS = service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name
# Numbers of the fields that every response has.
LOSS, INPUT_GRADIENT, TARGET_GRADIENT, WEIGHT_GRADIENT, OUTPUTS, SUMMARY, TIMING = range(1, 8)
# Fields of Outputs: number and dtype, 0 for the loss's.
OUTPUT_FIELDS = {"lse": (1, 0), "entropy": (2, 0), "argmax": (3, pb.DATA_TYPE_INT64), "correct": (4, pb.DATA_TYPE_BOOL)}
# Requests from here on are worth looking for elements that need no copy.
LARGE_BYTES = LEAST_BYTES
# Messages from here on leave in parts. To copy a smaller one costs less than to send its parts.
PARTS_BYTES = 1 << 18
# Two doubles and an int64; four int64: each with its tag, and the messages' own tags and lengths.
SUMMARY_BYTES, TIMING_BYTES = 9 + 9 + 11 + 2, 4 * 11 + 2


def decode(rpc: str, body: Body) -> ProtobufMessage:
    """The request message of `rpc`. Raises InvalidRequest: MALFORMED_MESSAGE, TOO_MANY_FIELDS."""
    require_few_fields(METHODS[rpc].input_type, body)
    try:
        return cast("ProtobufMessage", _request(rpc).FromString(body))
    except DecodeError:
        raise malformed(METHODS[rpc].input_type.full_name, len(body)) from None


def encode_request(rpc: str, fields: Fields) -> bytes:
    """The request of these fields, as the generated class writes it."""
    message: Any = _request(rpc)()
    for name, value in fields.items():
        if isinstance(value, request_fields.WireTensor):
            tensor = getattr(message, name)
            tensor.dtype, tensor.data = value.dtype, bytes(value.data)
            tensor.shape.extend(value.shape)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    body: bytes = message.SerializeToString()
    return body


def decode_fields(rpc: str, body: Body) -> Fields:
    """The fields of the request of `rpc`, those of LARGE_BYTES as views of `body`. Raises InvalidRequest."""
    message, views = _without_large_data(METHODS[rpc].input_type, body)
    return request_fields.fields_of(message, views)


def decode_stream(body: Body) -> tuple[service_pb2.StreamRequest, dict[Path, memoryview]]:
    """A message of a stream, and the elements of its large tensors as views of `body`. Raises InvalidRequest."""
    message, views = _without_large_data(STREAM_REQUEST, body)
    return cast("service_pb2.StreamRequest", message), views


def _without_large_data(kind: Descriptor, body: Body) -> tuple[ProtobufMessage, dict[Path, memoryview]]:
    require_few_fields(kind, body)
    try:
        return take_large_data(kind, body)
    except DecodeError:
        raise malformed(kind.full_name, len(body)) from None


def encode(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> bytes:
    """The serialised response. Elements are copied once, into it."""
    return b"".join(pieces(answer, queue_ns, compute_ns, batch_requests, batch_rows))


def encode_parts(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> Message:
    """The same, where it is large in parts: what a kernel wrote leaves from where it lies."""
    return in_parts(pieces(answer, queue_ns, compute_ns, batch_requests, batch_rows))


def in_parts(pieces: Sequence[Any]) -> Message:
    """A message of bytes and contiguous views of any element: joined where it is small."""
    views = [piece if isinstance(piece, bytes) else piece.cast("B") for piece in pieces]
    if sum(map(len, views)) < PARTS_BYTES:
        return b"".join(views)
    found: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for view in views:
        if len(view) < PARTS_BYTES // 4:
            small.append(view)
            continue
        if small:
            found.append(b"".join(small))
            small = []
        found.append(view)
    return (*found, b"".join(small))


def pieces(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> list[Any]:
    """The same before it is joined: bytes, and views of the elements."""
    loss = loss_field(LOSS, answer.job, answer.loss)
    return loss + _but_loss(answer, queue_ns, compute_ns, batch_requests, batch_rows)


def closing(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> list[Any]:
    """The same of an answer whose items have left in blocks: with a loss only where it is reduced."""
    reduced = answer.job.reducing.reduction is not Reduction.NONE
    loss = loss_field(LOSS, answer.job, answer.loss) if reduced else []
    return loss + _but_loss(answer, queue_ns, compute_ns, batch_requests, batch_rows)


def _but_loss(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> list[Any]:
    job, summary = answer.job, answer.summary
    parts: list[Any] = []
    for name, (number, dtype, shape) in gradient_tensors(job).items():
        gradient = getattr(answer, f"{name}_gradient")
        if gradient is not None:
            place = job.places.get(name)
            parts += _tensor(number, dtype, shape, gradient) if place is None else [_there(number, dtype, shape, place)]
    if job.outputs:
        parts += outputs_field(OUTPUTS, answer)
    if summary is not None:
        of = loss_pb2.Summary(loss_sum=summary.loss_sum, weight_sum=summary.weight_sum, count=summary.count)
        parts.append(message_field(SUMMARY, of.SerializeToString()))
    took = loss_pb2.Timing(
        queue_ns=queue_ns, compute_ns=compute_ns, batch_requests=batch_requests, batch_rows=batch_rows
    )
    parts.append(message_field(TIMING, took.SerializeToString()))
    return parts


def loss_field(number: int, job: Job, loss: npt.NDArray[Any]) -> list[Any]:
    """Field `number`, a Tensor, of a job's loss."""
    return _tensor(number, loss_dtype(job), loss_shape(job), loss)


def gradient_field(number: int, operand: Array, gradient: npt.NDArray[Any]) -> list[Any]:
    """Field `number`, a Tensor, of the gradient by `operand`."""
    return _tensor(number, gradient_dtype(operand.dtype), operand.shape, gradient)


def outputs_field(number: int, answer: Answer) -> list[Any]:
    """Field `number`, Outputs, of what was asked for."""
    job = answer.job
    parts: list[Any] = [tag(number), varint(_outputs_bytes(job))]
    for name, of, dtype in output_fields(job):
        parts += _tensor(of, dtype, job.loss_shape, answer.outputs[name])
    return parts


def response_bytes(job: Job) -> int:
    """Bytes of the job's response, known before it is computed: no fewer than `encode` gives, and at most 77 more."""
    size = TIMING_BYTES + _tensor_bytes(LOSS, loss_dtype(job), loss_shape(job))
    if not job.formula.activation:
        size += SUMMARY_BYTES
    for name, (number, dtype, shape) in gradient_tensors(job).items():
        place = job.places.get(name)
        size += _tensor_bytes(number, dtype, shape) if place is None else len(_there(number, dtype, shape, place))
    if job.outputs:
        outputs = _outputs_bytes(job)
        size += len(tag(OUTPUTS)) + len(varint(outputs)) + outputs
    return size


def tensors(job: Job) -> list[tuple[int, int, tuple[int, ...]]]:
    """The response's loss and gradients, in the order in which they are written: field number, dtype and shape."""
    return [(LOSS, loss_dtype(job), loss_shape(job)), *gradient_tensors(job).values()]


def loss_dtype(job: Job) -> int:
    """A `lossd.v1.DataType`."""
    return gradient_dtype(job.input.dtype) if job.formula.activation else DATA_TYPE[job.compute]


def loss_shape(job: Job) -> tuple[int, ...]:
    """() where the loss is reduced."""
    return job.loss_shape if job.reducing.reduction is Reduction.NONE else ()


def output_fields(job: Job) -> list[tuple[str, int, int]]:
    """(name, number, dtype) of the outputs that were asked for."""
    own = DATA_TYPE[job.compute]
    return [(name, number, dtype or own) for name, (number, dtype) in OUTPUT_FIELDS.items() if name in job.outputs]


def _outputs_bytes(job: Job) -> int:
    return sum(_tensor_bytes(number, dtype, job.loss_shape) for _, number, dtype in output_fields(job))


@cache
def _request(rpc: str) -> Any:
    return GetMessageClass(METHODS[rpc].input_type)


def _tensor(number: int, dtype: int, shape: tuple[int, ...], values: npt.NDArray[Any]) -> list[Any]:
    """Field `number`, a Tensor. values: contiguous, of any shape; their bytes are joined in later, not copied here."""
    return [tensor_header(number, dtype, shape), values.data if values.size else b""]


def gradient_tensors(job: Job) -> dict[str, tuple[int, int, tuple[int, ...]]]:
    """Field number, dtype and shape of the gradients that were asked for."""
    found = {}
    if job.input_gradient:
        found["input"] = INPUT_GRADIENT, gradient_dtype(job.input.dtype), job.input.shape
    if job.target_gradient and job.target is not None:
        found["target"] = TARGET_GRADIENT, gradient_dtype(job.target.dtype), job.target.shape
    if job.weight_gradient:
        found["weight"] = WEIGHT_GRADIENT, job.weight_dtype, (job.layout.classes,)
    return found


def _there(number: int, dtype: int, shape: tuple[int, ...], place: SharedMemoryRef) -> bytes:
    """Field `number`, a Tensor whose elements lie where the client wanted them."""
    lies = pb.SharedMemory(token=place.token, offset=place.offset, length=place.length)
    tensor = pb.Tensor(dtype=dtype, shape=shape, shared_memory=lies)  # type: ignore[arg-type]  # enums are ints to us
    return message_field(number, tensor.SerializeToString())


def element_bytes(dtype: int, shape: tuple[int, ...]) -> int:
    """Of a tensor's elements."""
    return prod(shape) * WIDTHS[dtype]


def _tensor_bytes(number: int, dtype: int, shape: tuple[int, ...]) -> int:
    return len(tensor_header(number, dtype, shape)) + element_bytes(dtype, shape)

"""Bytes of the wire to request messages, and answers to bytes of the wire."""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod
from typing import Any, cast

import numpy.typing as npt
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from lossd_server.array import STORAGE, Array, gradient_dtype
from lossd_server.errors import InvalidRequest
from lossd_server.job import Answer, Job, Reduction
from lossd_server.widening import DATA_TYPE

METHODS = service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name
# Numbers of the fields that every response has.
LOSS, INPUT_GRADIENT, TARGET_GRADIENT, WEIGHT_GRADIENT, OUTPUTS, SUMMARY, TIMING = range(1, 8)
# Fields of Outputs: number and dtype, 0 for the loss's.
OUTPUT_FIELDS = {"lse": (1, 0), "entropy": (2, 0), "argmax": (3, pb.DATA_TYPE_INT64), "correct": (4, pb.DATA_TYPE_BOOL)}
DATA = pb.Tensor.DATA_FIELD_NUMBER
LENGTH_DELIMITED = 2
# Two doubles and an int64; four int64: each with its tag, and the messages' own tags and lengths.
SUMMARY_BYTES, TIMING_BYTES = 9 + 9 + 11 + 2, 4 * 11 + 2


def decode(rpc: str, body: bytes) -> Message:
    """The request message of `rpc`. Raises InvalidRequest with reason MALFORMED_MESSAGE."""
    try:
        return cast("Message", _request(rpc).FromString(body))
    except DecodeError:
        name = METHODS[rpc].input_type.full_name
        raise InvalidRequest(
            f"the message of {len(body)} bytes is no {name}",
            reason="MALFORMED_MESSAGE",
            metadata={"bytes": len(body), "message": name},
        ) from None


def encode(answer: Answer, queue_ns: int, compute_ns: int, batch_requests: int, batch_rows: int) -> bytes:
    """The serialised response. Elements are copied once, into it."""
    job, summary = answer.job, answer.summary
    parts: list[Any] = _tensor(LOSS, _loss_dtype(job), _loss_shape(job), answer.loss)
    if answer.input_gradient is not None:
        parts += _gradient(INPUT_GRADIENT, job.input, answer.input_gradient)
    if answer.target_gradient is not None and job.target is not None:
        parts += _gradient(TARGET_GRADIENT, job.target, answer.target_gradient)
    if answer.weight_gradient is not None:
        parts += _tensor(WEIGHT_GRADIENT, job.weight_dtype, (job.layout.classes,), answer.weight_gradient)
    if job.outputs:
        parts += [_tag(OUTPUTS), _varint(_outputs_bytes(job))]
        for name, number, dtype in _output_fields(job):
            parts += _tensor(number, dtype, job.loss_shape, answer.outputs[name])
    if summary is not None:
        of = loss_pb2.Summary(loss_sum=summary.loss_sum, weight_sum=summary.weight_sum, count=summary.count)
        parts += _message(SUMMARY, of.SerializeToString())
    took = loss_pb2.Timing(
        queue_ns=queue_ns, compute_ns=compute_ns, batch_requests=batch_requests, batch_rows=batch_rows
    )
    parts += _message(TIMING, took.SerializeToString())
    return b"".join(parts)


def response_bytes(job: Job) -> int:
    """Bytes of the job's response, known before it is computed: no fewer than `encode` gives, and at most 77 more."""
    size = TIMING_BYTES + _tensor_bytes(LOSS, _loss_dtype(job), _loss_shape(job))
    if not job.formula.activation:
        size += SUMMARY_BYTES
    if job.input_gradient:
        size += _tensor_bytes(INPUT_GRADIENT, gradient_dtype(job.input.dtype), job.input.shape)
    if job.target_gradient and job.target is not None:
        size += _tensor_bytes(TARGET_GRADIENT, gradient_dtype(job.target.dtype), job.target.shape)
    if job.weight_gradient:
        size += _tensor_bytes(WEIGHT_GRADIENT, job.weight_dtype, (job.layout.classes,))
    if job.outputs:
        outputs = _outputs_bytes(job)
        size += len(_tag(OUTPUTS)) + len(_varint(outputs)) + outputs
    return size


def _loss_dtype(job: Job) -> int:
    return job.input.dtype if job.formula.activation else DATA_TYPE[job.compute]


def _loss_shape(job: Job) -> tuple[int, ...]:
    return job.loss_shape if job.reducing.reduction is Reduction.NONE else ()


def _output_fields(job: Job) -> list[tuple[str, int, int]]:
    """(name, number, dtype) of the outputs that were asked for."""
    own = DATA_TYPE[job.compute]
    return [(name, number, dtype or own) for name, (number, dtype) in OUTPUT_FIELDS.items() if name in job.outputs]


def _outputs_bytes(job: Job) -> int:
    return sum(_tensor_bytes(number, dtype, job.loss_shape) for _, number, dtype in _output_fields(job))


@cache
def _request(rpc: str) -> Any:
    return GetMessageClass(METHODS[rpc].input_type)


def _gradient(number: int, operand: Array, gradient: npt.NDArray[Any]) -> list[Any]:
    return _tensor(number, gradient_dtype(operand.dtype), operand.shape, gradient)


def _tensor(number: int, dtype: int, shape: tuple[int, ...], values: npt.NDArray[Any]) -> list[Any]:
    """Field `number`, a Tensor. values: contiguous, of any shape; their bytes are joined in later, not copied here."""
    return [_tensor_header(number, dtype, shape), values.data if values.size else b""]


@lru_cache(maxsize=4096)
def _tensor_header(number: int, dtype: int, shape: tuple[int, ...]) -> bytes:
    """All of a Tensor field up to its elements: its tag and length, dtype, shape, the tag and length of `data`."""
    size = prod(shape) * STORAGE[dtype].itemsize
    message = pb.Tensor(dtype=dtype, shape=shape).SerializeToString()  # type: ignore[arg-type]  # enums are ints to us
    data = _tag(DATA) + _varint(size)
    return _tag(number) + _varint(len(message) + len(data) + size) + message + data


def _tensor_bytes(number: int, dtype: int, shape: tuple[int, ...]) -> int:
    return len(_tensor_header(number, dtype, shape)) + prod(shape) * STORAGE[dtype].itemsize


def _message(number: int, body: bytes) -> list[bytes]:
    return [_tag(number), _varint(len(body)), body]


@cache
def _tag(number: int) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    """Protobuf's base-128 number, lowest group first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)

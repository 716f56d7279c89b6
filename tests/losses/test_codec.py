"""Answers as bytes, held to the generated classes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server import losses
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Answer, Job, JobSummary, Reduction
from lossd_server.tensors import request_fields
from lossd_server.tensors.array import STORAGE
from lossd_server.wire import codec
from tests.losses.checked import check
from tests.losses.messages import raw, tensor, zeros

NUMPY = {
    pb.DATA_TYPE_FLOAT16: np.dtype(np.float16),
    pb.DATA_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    pb.DATA_TYPE_FLOAT32: np.dtype(np.float32),
    pb.DATA_TYPE_FLOAT64: np.dtype(np.float64),
}
DTYPES = [*NUMPY, pb.DATA_TYPE_FLOAT8_E5M2]
SHAPES = [(), (1,), (3,), (2, 3), (0, 3), (2, 1, 4), (40, 50)]


def job_of(shape: tuple[int, ...], dtype: int, reduction: int, gradients: list[int]) -> Job:
    request = service.BCERequest(
        input=zeros(*shape, dtype=dtype),
        target=zeros(*shape),
        reduction=reduction,  # type: ignore[arg-type]
        gradients=gradients,  # type: ignore[arg-type]
    )
    return check("BCE", request)


def made_up(job: Job, dtype: int, summary: JobSummary) -> Answer:
    """An answer of random numbers."""
    random = np.random.default_rng(0)
    size = job.layout.elements
    shape = job.loss_shape if job.reducing.reduction is Reduction.NONE else ()
    stored = NUMPY.get(dtype, np.dtype(np.float32))  # type: ignore[call-overload]  # a plain int
    return Answer(
        job,
        np.asarray(random.normal(size=shape), job.compute),
        random.normal(size=size).astype(stored).view(f"u{stored.itemsize}") if job.input_gradient else None,
        random.normal(size=size).astype(np.float32) if job.target_gradient else None,
        summary,
    )


def message_of(dtype: int, shape: tuple[int, ...], values: npt.NDArray[Any]) -> pb.Tensor:
    return pb.Tensor(dtype=dtype, shape=shape, data=values.tobytes())  # type: ignore[arg-type]


@pytest.mark.parametrize("gradients", [[], [1], [1, 2], [2]])
@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoded_answer_is_what_the_generated_class_writes(
    shape: tuple[int, ...], dtype: int, reduction: int, gradients: list[int]
) -> None:
    """The same message, and of the size that was foretold."""
    job = job_of(shape, dtype, reduction, gradients)
    answer = made_up(job, dtype, JobSummary(1.5, 2.5, 3))
    loss_dtype = pb.DATA_TYPE_FLOAT64 if job.compute == np.float64 else pb.DATA_TYPE_FLOAT32
    expected = service.BCEResponse(loss=message_of(loss_dtype, answer.loss.shape, answer.loss))
    if answer.input_gradient is not None:
        own = dtype if dtype in NUMPY else pb.DATA_TYPE_FLOAT32
        expected.input_gradient.CopyFrom(message_of(own, shape, answer.input_gradient))
    if answer.target_gradient is not None:
        expected.target_gradient.CopyFrom(message_of(pb.DATA_TYPE_FLOAT32, shape, answer.target_gradient))
    expected.summary.loss_sum, expected.summary.weight_sum, expected.summary.count = 1.5, 2.5, 3
    expected.timing.queue_ns, expected.timing.compute_ns = 10, 20
    expected.timing.batch_requests, expected.timing.batch_rows = 4, 500

    body = codec.encode(answer, 10, 20, 4, 500)

    assert service.BCEResponse.FromString(body) == expected
    assert 0 <= codec.response_bytes(job) - len(body) <= 77


@pytest.mark.parametrize("rows", [(), (3,), (2, 4), (0,), (40, 50)])
@pytest.mark.parametrize("asked", [[1], [3], [2, 4], [1, 2, 3, 4], [4, 4]])
@pytest.mark.parametrize("wide", [False, True])
def test_outputs_are_what_the_generated_class_writes(rows: tuple[int, ...], asked: list[int], wide: bool) -> None:
    """One entry a row: measures in the loss's dtype, int64 and bool; of the size that was foretold."""
    own = pb.DATA_TYPE_FLOAT64 if wide else pb.DATA_TYPE_FLOAT32
    shape = (*rows[:1], 5, *rows[1:])
    target = zeros(*rows, dtype=pb.DATA_TYPE_INT64)
    request = service.CrossEntropyRequest(input=zeros(*shape, dtype=own), target=target, outputs=asked)  # type: ignore[arg-type]
    job = check("CrossEntropy", request)
    size = job.layout.rows
    made = {
        "lse": np.arange(size, dtype=job.compute),
        "entropy": np.arange(size, dtype=job.compute) / 7,
        "argmax": np.arange(size) - 1,
        "correct": np.arange(size, dtype=np.uint8) % 2,
    }
    answer = Answer(job, np.array(1.0, job.compute), None, None, JobSummary(1.0, 1.0, 1), made)
    body = codec.encode(answer, 1, 2, 3, 4)

    outputs = service.CrossEntropyResponse.FromString(body).outputs
    dtypes = {"lse": own, "entropy": own, "argmax": pb.DATA_TYPE_INT64, "correct": pb.DATA_TYPE_BOOL}
    for name, dtype in dtypes.items():
        if name in job.outputs:
            assert getattr(outputs, name) == message_of(dtype, rows, made[name])
        assert outputs.HasField(name) == (name in job.outputs)  # type: ignore[arg-type]
    assert 0 <= codec.response_bytes(job) - len(body) <= 77


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_a_class_weights_gradient_is_a_tensor_of_its_own(dtype: int | None) -> None:
    """Of C entries and the weight's dtype, after the others."""
    weight = None if dtype is None else zeros(3, dtype=dtype)
    request = service.CrossEntropyRequest(input=zeros(2, 3), target=zeros(2, 3), weight=weight, gradients=[2, 3])  # type: ignore[list-item]
    job = check("CrossEntropy", request)
    own = dtype if dtype in NUMPY else pb.DATA_TYPE_FLOAT32
    of_weight = np.ones(3, NUMPY[own])  # type: ignore[index]
    answer = Answer(
        job,
        np.array(1.0, job.compute),
        None,
        np.ones(6, np.float32),
        JobSummary(1.0, 1.0, 1),
        weight_gradient=of_weight.view(STORAGE[own]),
    )
    body = codec.encode(answer, 1, 2, 3, 4)

    response = service.CrossEntropyResponse.FromString(body)
    assert response.weight_gradient == message_of(own, (3,), of_weight)
    assert response.target_gradient.shape == [2, 3]
    assert 0 <= codec.response_bytes(job) - len(body) <= 77


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_activations_answer_has_its_values_and_no_summary(shape: tuple[int, ...], dtype: int) -> None:
    """In the input's dtype, but float32 for 8-bit floats, and the input's shape."""
    job = check("Activation", service.ActivationRequest(input=zeros(*shape, dtype=dtype), gradients=[1]))  # type: ignore[list-item]
    own = dtype if dtype in NUMPY else pb.DATA_TYPE_FLOAT32
    values = np.ones(job.layout.elements, NUMPY[own])  # type: ignore[index]
    body = codec.encode(Answer(job, values.view(STORAGE[own]), values.view(STORAGE[own]), None, None), 1, 2, 3, 4)

    response = service.ActivationResponse.FromString(body)
    assert response.loss == response.input_gradient == message_of(own, shape, values)
    assert not response.HasField("summary")
    assert 0 <= codec.response_bytes(job) - len(body) <= 77


@given(
    loss_sum=st.floats(allow_nan=False),
    weight_sum=st.floats(allow_nan=False),
    numbers=st.lists(st.integers(0, 2**63 - 1), min_size=5, max_size=5),
)
def test_the_size_foretold_is_never_too_small(loss_sum: float, weight_sum: float, numbers: list[int]) -> None:
    """Whatever the summary and the timing say."""
    count, *timing = numbers
    job = job_of((2, 3), pb.DATA_TYPE_FLOAT32, 2, [1, 2])
    answer = made_up(job, pb.DATA_TYPE_FLOAT32, JobSummary(loss_sum, weight_sum, count))

    body = codec.encode(answer, *timing)

    response = service.BCEResponse.FromString(body)
    summary, told = response.summary, response.timing
    assert (summary.loss_sum, summary.weight_sum, summary.count) == (loss_sum, weight_sum, count)
    assert [told.queue_ns, told.compute_ns, told.batch_requests, told.batch_rows] == timing
    assert 0 <= codec.response_bytes(job) - len(body) <= 77


@pytest.mark.parametrize("rpc", sorted(set(codec.METHODS) - {"Stream"}))
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05", b"\x0b" * 200, b"\x0a\xff\xff\xff\xff\x0f"])
def test_bytes_that_are_no_message_are_malformed(rpc: str, body: bytes) -> None:
    """Truncated, a wrong wire type, groups without end, a length of 4 GiB."""
    with pytest.raises(InvalidRequest) as refused:
        codec.decode(rpc, body)

    assert refused.value.reason == "MALFORMED_MESSAGE"
    assert refused.value.message.startswith(f"the message of {len(body)} bytes is no lossd.v1.{rpc}Request: ")


def test_a_field_sent_twice_means_what_the_generated_class_says() -> None:
    """Protobuf merges the two: the shapes are joined, so the data no longer fits, and that is refused."""
    twice = service.BCERequest(input=zeros(2)).SerializeToString() * 2
    message = codec.decode("BCE", twice + service.BCERequest(target=zeros(2)).SerializeToString())

    with pytest.raises(InvalidRequest, match=r"input has 8 bytes of data, but its shape \[2, 2\]"):
        check("BCE", message)


def test_unknown_fields_change_nothing() -> None:
    """A newer client's request is served as far as it is understood."""
    request = service.BCERequest(input=tensor([0.5]), target=raw([1], pb.DATA_TYPE_BOOL, 1))
    field_999 = b"\xba\x3e\x03abc"

    assert codec.decode("BCE", request.SerializeToString() + field_999).input == request.input  # type: ignore[attr-defined]


LARGE = service.BCERequest(input=zeros(200, 200), target=zeros(200, 200), normalizer=2.0)


def test_the_elements_of_a_large_request_are_not_copied() -> None:
    """Its fields are those of the generated class's message, with elements that lie in the bytes received."""
    body = LARGE.SerializeToString()
    fields = codec.decode_fields("BCE", body)

    assert fields == request_fields.fields_of(LARGE)
    assert fields["input"].data.obj is fields["target"].data.obj is body
    assert losses.check("BCE", fields).input.values.tobytes() == LARGE.input.data


@pytest.mark.parametrize("end", [b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\x0c", b"\x00"])
def test_a_large_request_that_is_no_message_is_malformed(end: bytes) -> None:
    """As a small one is."""
    with pytest.raises(InvalidRequest) as refused:
        codec.decode_fields("BCE", LARGE.SerializeToString() + end)

    assert refused.value.reason == "MALFORMED_MESSAGE"

"""Requests whose elements are to come: checked as far as they go, which is all but the elements."""

from __future__ import annotations

from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import tensor_pb2 as pb
from lossd_server import losses
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Job
from lossd_server.tensors import request_fields
from lossd_server.tensors.array import STORAGE, Array, View
from lossd_server.tensors.request_fields import Fields, SharedMemoryRef, WireTensor
from tests.losses.messages import tensor, zeros
from tests.losses.requests import (
    BOOL,
    F32,
    F64,
    I32,
    I64,
    activation,
    bce,
    bce_with_logits,
    cross_entropy,
    distribution,
    entropy,
    kl_divergence,
    nll,
    rpc,
    self_information,
)

F8, F16 = pb.DATA_TYPE_FLOAT8_E4M3FN, pb.DATA_TYPE_BFLOAT16
ONES = tensor(np.ones((8, 16)))
REQUESTS: dict[str, Any] = {
    "indices": cross_entropy(target=zeros(8, dtype=I32), row_weight=zeros(8)),
    "distribution": distribution(input=zeros(8, 16, dtype=F8), target=zeros(8, 16, dtype=F16), gradients=[1, 2, 3]),
    "target counts": cross_entropy(target=tensor(np.ones((8, 16)), "int64"), target_kind=loss.KIND_COUNTS),
    "counts": cross_entropy(input=tensor(np.ones((8, 16)), "int32"), kind=loss.KIND_COUNTS),
    "entropy": entropy(row_weight=zeros(8), reduction=loss.REDUCTION_NONE, grad_output=zeros(8)),
    "bce": bce(target=zeros(8, 16, dtype=BOOL), weight=zeros(8, 1)),
    "bce_with_logits": bce_with_logits(target=zeros(8, 16, dtype=I64), pos_weight=zeros(8, 16, dtype=F64)),
    "kl": kl_divergence(input=ONES, kind=loss.KIND_LOGITS, target=ONES, target_kind=loss.KIND_COUNTS),
    "nll": nll(),
    "self_information": self_information(),
    "activation": activation(grad_output=zeros(8, 16, dtype=F16)),
}


def hollow(fields: Fields) -> Fields:
    """The same, with every tensor that has eight items yet to come."""
    return {name: to_come(value) if isinstance(value, WireTensor) else value for name, value in fields.items()}


def to_come(tensor: WireTensor) -> WireTensor:
    return replace(tensor, storage="hollow", data=b"") if tensor.shape[:1] == (8,) else tensor


def shape_of(value: Any) -> Any:
    """What is left of a job's field without its elements."""
    if isinstance(value, Array | View):
        return type(value), value.dtype, value.values.dtype, value.shape, getattr(value, "strides", None)
    return value.dtype if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_hollow_request_is_checked_into_the_same_job(kind: str) -> None:
    """Formula, layout, shapes, dtypes, options: all but the elements, of which there are none."""
    request = REQUESTS[kind]
    fields = request_fields.fields_of(request)
    whole, template = losses.check(rpc(request), fields), losses.check(rpc(request), hollow(fields))

    for field in fields_of(Job):
        assert shape_of(getattr(template, field.name)) == shape_of(getattr(whole, field.name)), field.name
    assert template.input.values.size == 0
    assert template.target is None or template.target.values.size == 0


@pytest.mark.parametrize(
    "request_, reason",
    [
        (bce(target=zeros(8, 15)), "SHAPE_MISMATCH"),
        (nll(target=zeros(8)), "DTYPE_NOT_TAKEN"),
        (entropy(input=zeros(8, 16, dtype=I64)), "DTYPE_NOT_TAKEN"),
        (entropy(base=1.0), "OPTION_OUT_OF_RANGE"),
        (cross_entropy(target=zeros(8, 16, dtype=BOOL)), "DTYPE_NOT_TAKEN"),
        (self_information(input=pb.Tensor(dtype=F32, shape=[8, -1])), "INVALID_SHAPE"),
        (self_information(input=pb.Tensor(dtype=99, shape=[8])), "UNKNOWN_ENUM"),  # type: ignore[arg-type]
    ],
)
def test_a_hollow_request_is_refused_like_any_other(request_: Any, reason: str) -> None:
    """Before its first element is there."""
    with pytest.raises(InvalidRequest) as refused:
        losses.check(rpc(request_), hollow(request_fields.fields_of(request_)))

    assert refused.value.reason == reason


def test_a_scalar_cannot_be_hollow() -> None:
    """It has no items that could come one after the other."""
    fields = request_fields.fields_of(self_information(grad_output=zeros(), reduction=loss.REDUCTION_SUM))
    fields["grad_output"] = replace(fields["grad_output"], storage="hollow", data=b"")

    with pytest.raises(InvalidRequest, match="grad_output is a scalar"):
        losses.check("SelfInformation", fields)


def test_fields_are_as_they_were_sent() -> None:
    """Elements where the message has them, a place in shared memory, a mark, or nothing; other fields unchanged."""
    request = bce(
        target=pb.Tensor(dtype=F32, shape=[2], shared_memory=pb.SharedMemory(token=b"abc", offset=2**63, length=8)),
        weight=pb.Tensor(dtype=-7, shape=[-1], streamed=pb.Streamed()),  # type: ignore[arg-type]
        grad_output=pb.Tensor(),
        normalizer=3.0,
        gradients=[1],
    )
    fields = request_fields.fields_of(request)

    assert fields == {
        "input": WireTensor(F32, (8, 16), "data", bytes(512)),
        "target": WireTensor(F32, (2,), "shared_memory", place=SharedMemoryRef(b"abc", 2**63, 8)),
        "weight": WireTensor(-7, (-1,), "streamed"),
        "grad_output": WireTensor(0, (), ""),
        "normalizer": 3.0,
        "gradients": [1],
    }


def test_elements_that_were_cut_out_are_the_fields() -> None:
    """By the path of their tensor, from a message that lies inside another."""
    view = memoryview(bytes(range(8)))
    request = bce(input=pb.Tensor(dtype=F32, shape=[2]))

    fields = request_fields.fields_of(
        request, {("open", "bce", "input"): view, ("input",): memoryview(b"")}, ("open", "bce")
    )
    assert fields["input"] == WireTensor(F32, (2,), "data", view)
    assert fields["target"].data == bytes(512)


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT16, F16, F32, F64])
def test_elements_are_not_copied(dtype: int) -> None:
    """A large input reaches the job where it lies, at any address."""
    view = memoryview(bytes(2000))[1 : 1 + 128 * STORAGE[dtype].itemsize]
    job = losses.check("Entropy", {"input": WireTensor(dtype, (8, 16), "data", view)})

    assert np.shares_memory(job.input.values, np.frombuffer(view, np.uint8))

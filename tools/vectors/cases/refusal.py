"""How refusals are made: requests of the usual kind, with what is wrong about them."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from lossd.v1 import tensor_pb2
from vectors.case import Refusal
from vectors.request import message, rpc_of
from vectors.values import Array


def refused(name: str, reason: str, field: str, method: str, *tensors: Array, **options: Any) -> Refusal:
    return Refusal(name, rpc_of(method), message(method, *tensors, **options), reason, field)


def value(name: str, reason: str, field: str, method: str, *tensors: Array, **options: Any) -> Refusal:
    """A value of a tensor is wrong: found in the pass itself, whatever block it lies in."""
    return Refusal(name, rpc_of(method), message(method, *tensors, **options), reason, field, value=True)


def changed(name: str, reason: str, field: str, request: Any, code: str = "INVALID_ARGUMENT") -> Refusal:
    rpc = request.DESCRIPTOR.name.removesuffix("Request")
    return Refusal(name, rpc, request, reason, field, code)


def with_tensor(request: Message, name: str, **fields: Any) -> Message:
    """Its tensor `name` has these fields instead of those that `message` gave it."""
    tensor = getattr(request, name)
    for field in fields:
        tensor.ClearField(field)
    tensor.MergeFrom(tensor_pb2.Tensor(**fields))
    return request


def without_data(request: Message, name: str, **fields: Any) -> Message:
    """Its tensor `name` has no data, but what `fields` say."""
    tensor = getattr(request, name)
    tensor.CopyFrom(tensor_pb2.Tensor(dtype=tensor.dtype, shape=tensor.shape, **fields))
    return request

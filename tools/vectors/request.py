"""Requests: a method, tensors and options as the request message of their RPC."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import Message

from lossd.v1 import service_pb2, tensor_pb2
from vectors.values import Array

RPCS = {
    "cross_entropy": "CrossEntropy",
    "entropy": "Entropy",
    "bce": "BCE",
    "bce_with_logits": "BCEWithLogits",
    "kl_divergence": "KLDivergence",
    "nll": "NLL",
    "self_information": "SelfInformation",
}
FUNCTIONS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")
ENUMS = {"reduction": "REDUCTION", "kind": "KIND", "target_kind": "KIND", "empty_mean": "EMPTY_MEAN"}
REPEATED = {"grad": ("gradients", "GRADIENT"), "outputs": ("outputs", "OUTPUT")}


def rpc_of(method: str) -> str:
    return "Activation" if method in FUNCTIONS else RPCS[method]


def message(method: str, *tensors: Array, **options: Any) -> Message:
    """The request. An enum's number stands for itself; of a name or an array the wire's form is made."""
    fields: dict[str, Any] = dict(zip(("input", "target"), map(tensor, tensors), strict=False))
    if method in FUNCTIONS:
        fields["function"] = f"ACTIVATION_FUNCTION_{method.upper()}"
    for name, value in options.items():
        if name in REPEATED:
            field, prefix = REPEATED[name]
            fields[field] = [_named(prefix, one) for one in _several(value)]
        elif name in ENUMS:
            fields[name] = _named(ENUMS[name], value)
        else:
            fields[name] = tensor(value) if isinstance(value, np.ndarray) else value
    made: Message = getattr(service_pb2, f"{rpc_of(method)}Request")(**fields)
    return made


def tensor(array: Array) -> tensor_pb2.Tensor:
    dtype = tensor_pb2.DataType.Value(f"DATA_TYPE_{array.dtype.name.upper()}")
    return tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=array.tobytes())


def _named(prefix: str, value: str | int) -> str | int:
    return f"{prefix}_{value.upper()}" if isinstance(value, str) else value


def _several(value: Any) -> Any:
    """True is the input's gradient."""
    return ("input",) if value is True else (value,) if isinstance(value, str) else value

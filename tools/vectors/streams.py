"""Which tensors of a request can be streamed, and how many items a block of a replay has."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from google.protobuf.message import Message

from lossd.v1 import loss_pb2

ELEMENTWISE = {"BCE", "BCEWithLogits", "KLDivergence", "SelfInformation"}
ELEMENT_FUNCTIONS = (loss_pb2.ACTIVATION_FUNCTION_SIGMOID, loss_pb2.ACTIVATION_FUNCTION_LOG_SIGMOID)
BY_ROW = (loss_pb2.KIND_LOGITS, loss_pb2.KIND_COUNTS)
CLASS_WEIGHTED = {"CrossEntropy", "NLL"}
# What GetServerInfo says; a server with another has these blocks refused, and the vectors are to be made anew.
ELEMENTWISE_GRANULARITY = 4096


def stream(rpc: str, request: Any) -> dict[str, Any] | None:
    """None where the input is one item, which is sent whole, or has none, so that no block could be sent."""
    shape = list(request.input.shape)
    elementwise = _is_elementwise(rpc, request)
    if not shape or shape[0] == 0 or (not elementwise and (len(shape) == 1 or _class_dimension(request) == 0)):
        return None
    streamed = ["input"]
    for name in ("target", "weight", "row_weight", "pos_weight", "grad_output"):
        if name in _known_at_the_start(rpc, request) or not _has(request, name):
            continue
        own = list(getattr(request, name).shape)
        whole_items = own[:1] == shape[:1] and (name not in ("weight", "pos_weight") or own == shape)
        if whole_items:
            streamed.append(name)
    least = max(1, ceil(ELEMENTWISE_GRANULARITY / max(1, prod(shape[1:])))) if elementwise else 1
    names = [request.DESCRIPTOR.fields_by_name[name].json_name for name in streamed]
    return {"tensors": names, "blockItems": least * max(1, shape[0] // (2 * least))}


def _is_elementwise(rpc: str, request: Any) -> bool:
    if rpc == "Activation":
        return request.function in ELEMENT_FUNCTIONS
    if rpc == "KLDivergence" and (request.kind in BY_ROW or request.target_kind in BY_ROW):
        return False
    return rpc in ELEMENTWISE


def _class_dimension(request: Any) -> int:
    """`dim` counts from the end where it is negative."""
    dim = request.dim if _has(request, "dim") else 1
    return int(dim + len(request.input.shape) if dim < 0 else dim)


def _known_at_the_start(rpc: str, request: Any) -> set[str]:
    """What is sent with the Open: class weights, and what the denominator of a gradient's mean follows from."""
    known = {"weight"} if rpc in CLASS_WEIGHTED else set()
    mean = request.reduction in (loss_pb2.REDUCTION_UNSPECIFIED, loss_pb2.REDUCTION_MEAN)
    if request.gradients and mean and not _has(request, "normalizer"):
        return known | {"target", "row_weight"}
    return known


def _has(request: Message, name: str) -> bool:
    return name in request.DESCRIPTOR.fields_by_name and request.HasField(name)

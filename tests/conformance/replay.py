"""Replays of a vector (tests/vectors): as a unary call, streamed in blocks, and through `lossd.Client`.

Each gives an Answer or a Refused, whatever way it was asked; `difference` compares with what the vector says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lossd.v1 import loss_pb2, service_pb2, tensor_pb2
from lossd.v1.service_pb2_grpc import LossServiceStub

FOLDER = Path(__file__).parents[1] / "vectors"
Array = npt.NDArray[Any]
WAIT_S = 60.0
GRADIENTS = {"inputGradient": "input", "targetGradient": "target", "weightGradient": "weight"}


@dataclass(frozen=True)
class Vector:
    """One case of a file."""

    loss: str
    rpc: str
    case: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.loss}: {self.case['name']}"

    def request(self) -> Any:
        message = getattr(service_pb2, f"{self.rpc}Request")()
        return json_format.ParseDict(self.case["request"], message)


@dataclass(frozen=True)
class Answer:
    """Tensors by the vector's names; summary: lossSum, weightSum, count; None where there is none."""

    tensors: dict[str, Array]
    outputs: dict[str, Array]
    summary: dict[str, float] | None


@dataclass(frozen=True)
class Refused:
    """code: as the wire names it."""

    code: str
    reason: str
    field: str


def vectors() -> Iterator[Vector]:
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for case in document["cases"]:
            yield Vector(document["loss"], document["rpc"], case)


def difference(vector: Vector, got: Answer | Refused) -> str:
    """What is not as the vector says; "" where all is."""
    if "error" in vector.case:
        expected = Refused(**vector.case["error"])
        return "" if got == expected else f"{got} instead of {expected}"
    if isinstance(got, Refused):
        return f"{got} instead of an answer"
    response = vector.case["response"]
    tensors = {name: value for name, value in response.items() if name not in ("outputs", "summary")}
    found = [_set(tensors, got.tensors), _set(response.get("outputs", {}), got.outputs)]
    summary = response.get("summary")
    if summary is None or got.summary is None:
        found.append("" if summary is None and got.summary is None else "a summary on one side only")
    else:
        scalars = {name: np.float64(value) for name, value in got.summary.items() if name != "count"}
        found.append(_set({name: value for name, value in summary.items() if name != "count"}, scalars))
        found.append("" if got.summary["count"] == summary["count"] else f"count {got.summary['count']}")
    return "; ".join(one for one in found if one)


def _set(expected: dict[str, Any], got: dict[str, Any]) -> str:
    if expected.keys() != got.keys():
        return f"{sorted(got)} instead of {sorted(expected)}"
    return "; ".join(filter(None, (_tensor(name, want, got[name]) for name, want in expected.items())))


def _tensor(name: str, want: dict[str, Any], got: Any) -> str:
    array = np.asarray(got)
    dtype, shape = f"DATA_TYPE_{array.dtype.name.upper()}", [str(length) for length in array.shape]
    if (dtype, shape) != (want["dtype"], want["shape"]):
        return f"{name} is {dtype} of {shape}"
    for place, (one, number) in enumerate(zip(array.reshape(-1).tolist(), map(float, want["values"]), strict=True)):
        one = float(one)
        same = one == number or (np.isnan(one) and np.isnan(number))
        if not same and not abs(one - number) <= want["atol"] + want["rtol"] * abs(number):
            return f"{name}[{place}] is {one!r} instead of {number!r} ± {want['atol']} ± {want['rtol']}"
    return ""


# ---- unary


def unary(stub: LossServiceStub, vector: Vector) -> Answer | Refused:
    try:
        return _answer(getattr(stub, vector.rpc)(vector.request(), timeout=WAIT_S))
    except grpc.RpcError as error:
        failed: Any = error  # a Call too, which its type does not say
        rich = status_pb2.Status.FromString(dict(failed.trailing_metadata())["grpc-status-details-bin"])
        return _refused(failed.code().name, rich.details)


def _answer(response: Any) -> Answer:
    fields = {"loss": "loss"} | {name: f"{operand}_gradient" for name, operand in GRADIENTS.items()}
    tensors = {name: array(getattr(response, field)) for name, field in fields.items() if response.HasField(field)}
    outputs = {field.name: array(value) for field, value in response.outputs.ListFields()}
    summary = None
    if response.HasField("summary"):
        one = response.summary
        summary = {"lossSum": one.loss_sum, "weightSum": one.weight_sum, "count": one.count}
    return Answer(tensors, outputs, summary)


def _refused(code: str, details: Any) -> Refused:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return Refused(code, info.reason, bad.field_violations[0].field if bad.field_violations else "")


def dtype_of(tensor: tensor_pb2.Tensor) -> np.dtype[Any]:
    name = tensor_pb2.DataType.Name(tensor.dtype).removeprefix("DATA_TYPE_").lower()
    own = name if name in ("bfloat16", "float8_e4m3fn", "float8_e5m2") else None
    return np.dtype(getattr(ml_dtypes, own) if own else name)


def array(tensor: tensor_pb2.Tensor) -> Array:
    return np.frombuffer(tensor.data, dtype_of(tensor)).reshape(tuple(tensor.shape))


# ---- in blocks


def streamed(stub: LossServiceStub, vector: Vector) -> Answer | Refused:
    """Evaluation 1 of a stream of its own. Tensors are small: its blocks are sent before any answer is read."""
    answers: list[Any] = list(stub.Stream(iter(_messages(vector)), timeout=WAIT_S))
    last = answers[-1]
    if last.HasField("failure"):
        return _refused(_code_name(last.failure.code), last.failure.details)
    end = _answer(getattr(last.result, last.result.WhichOneof("response")))
    blocks = [one.block for one in answers if one.HasField("block")]
    assert [one.first_item for one in blocks] == sorted(one.first_item for one in blocks)
    names = {"loss": "loss", "inputGradient": "input_gradient", "targetGradient": "target_gradient"}
    outputs = {field.name: field.name for field in loss_pb2.Outputs.DESCRIPTOR.fields}
    return Answer(
        end.tensors | _joined(names, blocks),
        end.outputs | _joined(outputs, [one.outputs for one in blocks]),
        end.summary,
    )


def _joined(names: dict[str, str], blocks: list[Any]) -> dict[str, Array]:
    """The tensors that blocks have, by the vector's names."""
    parts = {
        name: [array(getattr(one, field)) for one in blocks if one.HasField(field)] for name, field in names.items()
    }
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def _messages(vector: Vector) -> Sequence[service_pb2.StreamRequest]:
    """Open, blocks, End."""
    request, how = vector.request(), vector.case["stream"]
    whole: dict[str, Array] = {}
    for name in how["tensors"]:
        field = next(one.name for one in request.DESCRIPTOR.fields if one.json_name == name)
        tensor = getattr(request, field)
        whole[field] = array(tensor)
        tensor.streamed.SetInParent()
    opened = service_pb2.Open(evaluation_id=1)
    _field_for(opened, request).CopyFrom(request)
    found = [service_pb2.StreamRequest(open=opened)]
    for first in range(0, len(whole["input"]), how["blockItems"]):
        block = service_pb2.Block(evaluation_id=1, first_item=first)
        for field, values in whole.items():
            part = values[first : first + how["blockItems"]]
            dtype = getattr(request, field).dtype
            getattr(block, field).CopyFrom(tensor_pb2.Tensor(dtype=dtype, shape=part.shape, data=part.tobytes()))
        found.append(service_pb2.StreamRequest(block=block))
    return [*found, service_pb2.StreamRequest(end=service_pb2.End(evaluation_id=1))]


def _field_for(opened: service_pb2.Open, request: Message) -> Any:
    for field in opened.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.name == request.DESCRIPTOR.name:
            return getattr(opened, field.name)
    raise AssertionError(request.DESCRIPTOR.name)


def _code_name(code: int) -> str:
    return next(one.name for one in grpc.StatusCode if one.value[0] == code)

"""Inference requests of the losses' own ones, and their answers, by our classes; a server without its network."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from lossd.contract import value_names
from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.call.contract import Message, Metadata, Routes, Status, whole_message
from lossd_server.config.settings import Settings
from lossd_server.inference.models import AUXILIARY, DATATYPE_NAMES, GRADIENTS, MODELS
from lossd_server.inference.protocol import INFERENCE_SERVICE, ModelInferRequest, ModelInferResponse
from lossd_server.server import Server
from lossd_server.tensors.request_fields import TENSOR
from tests.losses.requests import rpc
from tests.server.memory_front import MemoryCall, handled

MODEL_INFER = f"/{INFERENCE_SERVICE}/ModelInfer"
MODEL_STREAM_INFER = f"/{INFERENCE_SERVICE}/ModelStreamInfer"
# Name to datatype, shape and bytes.
Outputs = dict[str, tuple[str, tuple[int, ...], bytes]]


class NotSayable(Exception):
    """The protocol has no words for it: a dtype, shared memory, a number that is no value of its enum."""


def model_name(request: Any) -> str:
    """The model that takes the request of a loss."""
    function = getattr(request, "function", 0)
    if rpc(request) == "Activation":
        return value_names(loss_pb2.ActivationFunction.DESCRIPTOR)[function or 1]
    return next(model.name for model in MODELS.values() if model.rpc == rpc(request))


def inferred(request: Any, request_id: str = "", outputs: Iterable[str] | None = None) -> Any:
    """The same request in the protocol's words: every output that it asks for. Raises NotSayable."""
    name = model_name(request)
    message = ModelInferRequest(model_name=name, id=request_id)
    asked = list(MODELS[name].given)
    for field, value in request.ListFields():
        if field.message_type is TENSOR:
            if value.dtype not in DATATYPE_NAMES or value.WhichOneof("storage") not in ("data", None):
                raise NotSayable
            sent = message.inputs.add(name=field.name, datatype=DATATYPE_NAMES[value.dtype])
            sent.shape.extend(value.shape)
            message.raw_input_contents.append(value.data)
        elif field.name in ("gradients", "outputs"):
            names = {number: word for word, number in (GRADIENTS if field.name == "gradients" else AUXILIARY).items()}
            if any(number not in names for number in value) or len(set(value)) < len(value):
                raise NotSayable
            asked += [names[number] for number in value]
        elif field.name == "reduction" and name in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
            raise NotSayable
        elif field.enum_type is not None:
            word = value_names(field.enum_type).get(value)
            if field.name == "function":
                continue
            if word is None:
                raise NotSayable
            message.parameters[field.name].string_param = word
        elif field.name not in MODELS[name].options:
            raise NotSayable
        elif isinstance(value, int):
            message.parameters[field.name].int64_param = value
        else:
            message.parameters[field.name].double_param = value
    for one in asked if outputs is None else outputs:
        message.outputs.add(name=one)
    return message


def unpacked(response: Any) -> Outputs:
    assert len(response.outputs) == len(response.raw_output_contents)
    return {
        output.name: (output.datatype, tuple(output.shape), data)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def own_outputs(response: Any, request: Any) -> Outputs:
    """What the loss's own response has, as outputs."""
    result = MODELS[model_name(request)].result

    def told(tensor: pb.Tensor) -> tuple[str, tuple[int, ...], bytes]:
        return DATATYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor.data

    found: Outputs = {result: told(response.loss)}
    for name in ("input_gradient", "target_gradient", "weight_gradient"):
        if response.HasField(name):
            found[name] = told(getattr(response, name))
    for field, tensor in response.outputs.ListFields():
        found[field.name] = told(tensor)
    if response.HasField("summary"):
        summary = response.summary
        for name, value in (("loss_sum", summary.loss_sum), ("weight_sum", summary.weight_sum)):
            found[name] = "FP64", (), struct.pack("<d", value)
        found["count"] = "INT64", (), summary.count.to_bytes(8, "little", signed=True)
    return found


class Handle(Protocol):
    """Has a call handled: the path, its message and metadata."""

    def __call__(self, path: str, message: bytes, metadata: Metadata = ()) -> Awaitable[Message | Status]: ...


def with_server(backend: Backend, body: Callable[[Handle, Server], Awaitable[None]], **settings: Any) -> None:
    """Runs `body`, which has calls handled by path and message, on a server that has no port."""

    async def run() -> None:
        server = Server(Settings(listen=("unix:unused",), shared_memory_socket="off", **settings), backend)

        async def handle(path: str, message: bytes, metadata: Metadata = ()) -> Message | Status:
            return await handled(server.routes, MemoryCall(path, [message], metadata))

        try:
            await body(handle, server)
        finally:
            server.service.expire(0.0)
            await server.stop(1.0, linger_s=0.0)

    asyncio.run(asyncio.wait_for(run(), 250.0))


async def streamed(routes: Routes, messages: Iterable[bytes]) -> list[bytes]:
    """The messages that answer a stream of these, which ends with OK."""
    call = MemoryCall(MODEL_STREAM_INFER, messages)
    status = await handled(routes, call)
    assert isinstance(status, Status)
    assert status.code == 0, status
    return call.sent


def response_of(answer: Message | Status) -> Any:
    assert not isinstance(answer, Status), answer
    return ModelInferResponse.FromString(whole_message(answer))


def own_response(request: Any, answer: Message | Status) -> Any:
    assert not isinstance(answer, Status), answer
    return getattr(service_pb2, f"{rpc(request)}Response").FromString(whole_message(answer))


def refusal_of(answer: Message | Status) -> tuple[str, str, str, str]:
    """(code, reason, field, sentence) of a call that failed."""
    assert isinstance(answer, Status), "it was answered"
    reason = field = ""
    for key, value in answer.trailers:
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                info, bad = ErrorInfo(), BadRequest()
                if detail.Unpack(info):
                    assert info.domain == "lossd"
                    reason = info.reason
                if detail.Unpack(bad):
                    field = bad.field_violations[0].field
    code = next(one.name for one in grpc.StatusCode if one.value[0] == answer.code)
    return code, reason, field, answer.message

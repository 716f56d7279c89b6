"""Inference responses: what was asked for of an answer, as bytes. Elements leave from where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import pack
from typing import Any, TypeAlias

from lossd.v1 import tensor_pb2 as pb
from lossd.wire import message_field, tag, varint
from lossd_server.errors import ServerError
from lossd_server.inference.models import DATATYPE_NAMES, VERSION, Model
from lossd_server.inference.protocol import ModelInferResponse, ModelStreamInferResponse
from lossd_server.jobs.job import Answer, Job
from lossd_server.wire import codec
from lossd_server.wire.status import status_code, status_message

# Numbers of fields, of ModelInferResponse and of ModelStreamInferResponse.
OUTPUTS, RAW_CONTENTS = 5, 6
INFER_RESPONSE = 2
FINAL_RESPONSE = "triton_final_response"

# Name, lossd.v1.DataType and shape of an output.
OutputSpec: TypeAlias = tuple[str, int, tuple[int, ...]]


def response_head(model: Model, request_id: str, final: bool) -> bytes:
    """A response but for its outputs."""
    response = ModelInferResponse(model_name=model.name, model_version=VERSION, id=request_id)
    if final:
        response.parameters[FINAL_RESPONSE].bool_param = True
    body: bytes = response.SerializeToString()
    return body


def output_specs(job: Job, model: Model, names: Sequence[str]) -> list[OutputSpec]:
    """What the outputs of those names are."""
    gradients = codec.gradient_tensors(job)
    auxiliary = {name: dtype for name, _, dtype in codec.output_fields(job)} if job.outputs else {}
    found: list[OutputSpec] = []
    for name in names:
        gradient = gradients.get(name.removesuffix("_gradient"))
        if name == model.result:
            found.append((name, codec.loss_dtype(job), codec.loss_shape(job)))
        elif gradient is not None and name.endswith("_gradient"):
            found.append((name, gradient[1], gradient[2]))
        elif name in auxiliary:
            found.append((name, auxiliary[name], job.loss_shape))
        else:
            found.append((name, pb.DATA_TYPE_INT64 if name == "count" else pb.DATA_TYPE_FLOAT64, ()))
    return found


def infer_response_bytes(head: bytes, specs: Sequence[OutputSpec]) -> int:
    """Of the whole response, known before it is computed."""
    size = len(head)
    for name, dtype, shape in specs:
        elements = codec.element_bytes(dtype, shape)
        size += len(_header(name, dtype, shape)) + len(_raw_header(elements)) + elements
    return size


def response_constants(head: bytes, specs: Sequence[OutputSpec]) -> list[bytes]:
    """What a response has before the elements of each output."""
    first = b"".join((head, *(_header(*spec) for spec in specs)))
    found = [_raw_header(codec.element_bytes(dtype, shape)) for _, dtype, shape in specs]
    return [first + found[0], *found[1:]]


def response_pieces(head: bytes, specs: Sequence[OutputSpec], model: Model, answer: Answer) -> list[Any]:
    """A response before it is joined: bytes, and views of the elements."""
    found: list[Any] = []
    for constant, (name, _, _) in zip(response_constants(head, specs), specs, strict=True):
        found += constant, _elements(name, model, answer)
    return found


def stream_pieces(response: list[Any]) -> list[Any]:
    """The same as a message of ModelStreamInfer."""
    size = sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in response)
    return [tag(INFER_RESPONSE) + varint(size), *response]


def stream_error(model_name: str, request_id: str, error: ServerError) -> bytes:
    """A message of ModelStreamInfer for a request that failed: code, reason and field before the sentence, and as
    parameters of a response without outputs."""
    code, sentence = status_code(error).name, status_message(error)
    said = {"code": code, "reason": error.reason}
    if error.field:
        said["field"] = error.field
    message = ModelStreamInferResponse(error_message=f"{' '.join(said.values())}: {sentence}")
    response = message.infer_response
    response.model_name, response.id = model_name, request_id
    for name, value in said.items():
        response.parameters[name].string_param = value
    if error.retry_after_s is not None:
        response.parameters["retry_after_s"].double_param = error.retry_after_s
    body: bytes = message.SerializeToString()
    return body


@lru_cache(maxsize=4096)
def _header(name: str, dtype: int, shape: tuple[int, ...]) -> bytes:
    output = ModelInferResponse.InferOutputTensor(name=name, datatype=DATATYPE_NAMES[dtype], shape=shape)
    return message_field(OUTPUTS, output.SerializeToString())


def _raw_header(size: int) -> bytes:
    return tag(RAW_CONTENTS) + varint(size)


def _elements(name: str, model: Model, answer: Answer) -> Any:
    summary = answer.summary
    if name == model.result:
        values = answer.loss
    elif name in answer.outputs:
        values = answer.outputs[name]
    elif name.endswith("_gradient"):
        values = getattr(answer, name)
    elif name == "count":
        return pack("<q", summary.count if summary is not None else 0)
    else:
        return pack("<d", getattr(summary, name))
    return values.data if values.size else b""

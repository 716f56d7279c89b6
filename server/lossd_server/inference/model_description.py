"""Model descriptions: metadata and configuration, as far as one datatype and one shape can say what a loss takes."""

from __future__ import annotations

from functools import cache
from typing import Any

from lossd_server.inference.models import AUXILIARY, PLATFORM, VERSION, Model
from lossd_server.inference.protocol import message_class

ModelMetadataResponse = message_class("ModelMetadataResponse")
ModelConfigResponse = message_class("ModelConfigResponse")

# The usual case: (N, C) rows, or elements; class indices of (N); −1 is any size.
ROWS, ROW, SCALAR = (-1, -1), (-1,), ()
BY_ROW = frozenset({"Entropy", "CrossEntropy", "NLL"})
INDEXED = frozenset({"CrossEntropy", "NLL"})
AUXILIARY_DATATYPES = {"argmax": "INT64", "correct": "BOOL"}


def _input(model: Model, name: str) -> tuple[str, tuple[int, ...]]:
    """Usual datatype and shape."""
    if name == "target" and model.rpc in INDEXED:
        return "INT64", ROW
    if name == "row_weight" or (name == "weight" and model.rpc in INDEXED):
        return "FP32", ROW
    if name == "grad_output":
        return "FP32", _output(model, model.result)[1]
    return "FP32", ROWS


def _output(model: Model, name: str) -> tuple[str, tuple[int, ...]]:
    if name == model.result:
        # Two are not reduced where nothing is said.
        return "FP32", ROWS if model.function or model.rpc == "SelfInformation" else SCALAR
    if name in AUXILIARY:
        return AUXILIARY_DATATYPES.get(name, "FP32"), ROW
    if name == "weight_gradient":
        return "FP32", ROW
    if name.endswith("_gradient"):
        return "FP32", ROWS
    return "INT64" if name == "count" else "FP64", SCALAR


@cache
def metadata_response(model: Model) -> bytes:
    """The serialised ModelMetadataResponse."""
    response = ModelMetadataResponse(name=model.name, versions=[VERSION], platform=PLATFORM)
    for name in model.inputs:
        datatype, shape = _input(model, name)
        response.inputs.add(name=name, datatype=datatype, shape=shape)
    for name in model.outputs:
        datatype, shape = _output(model, name)
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    body: bytes = response.SerializeToString()
    return body


@cache
def config_response(model: Model) -> bytes:
    """The serialised ModelConfigResponse."""
    response: Any = ModelConfigResponse()
    config = response.config
    config.name, config.platform, config.backend = model.name, PLATFORM, PLATFORM
    for name in model.inputs:
        datatype, shape = _input(model, name)
        config.input.add(name=name, data_type=f"TYPE_{datatype}", dims=shape, optional=name not in model.required)
    for name in model.outputs:
        datatype, shape = _output(model, name)
        config.output.add(name=name, data_type=f"TYPE_{datatype}", dims=shape)
    body: bytes = response.SerializeToString()
    return body

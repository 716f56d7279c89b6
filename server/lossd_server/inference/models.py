"""Models: every loss by the name of its method in the client, with its inputs, options and outputs.

All but the names follows from the messages of the losses, so that a new field there is a new input or option here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lossd.v1 import loss_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.errors import InvalidRequest, NotFound, invalid
from lossd_server.tensors.request_fields import TENSOR
from lossd_server.wire.codec import METHODS, OUTPUT_FIELDS
from lossd_server.wire.status import shorten

VERSION = "1"
PLATFORM = "lossd"
SHOWN_BYTES = 64  # of a name that is none

# The protocol's datatypes, and what they are in lossd.v1.
DATATYPES: Mapping[str, int] = {
    "BOOL": tensor_pb2.DATA_TYPE_BOOL,
    "UINT8": tensor_pb2.DATA_TYPE_UINT8,
    "INT8": tensor_pb2.DATA_TYPE_INT8,
    "INT16": tensor_pb2.DATA_TYPE_INT16,
    "INT32": tensor_pb2.DATA_TYPE_INT32,
    "INT64": tensor_pb2.DATA_TYPE_INT64,
    "FP16": tensor_pb2.DATA_TYPE_FLOAT16,
    "BF16": tensor_pb2.DATA_TYPE_BFLOAT16,
    "FP32": tensor_pb2.DATA_TYPE_FLOAT32,
    "FP64": tensor_pb2.DATA_TYPE_FLOAT64,
}
DATATYPE_NAMES: Mapping[int, str] = {number: name for name, number in DATATYPES.items()}

GRADIENTS: Mapping[str, int] = {
    "input_gradient": pb.GRADIENT_INPUT,
    "target_gradient": pb.GRADIENT_TARGET,
    "weight_gradient": pb.GRADIENT_WEIGHT,
}
# The losses that have it, for some inputs at least.
WITH_GRADIENT: Mapping[int, frozenset[str]] = {
    pb.GRADIENT_INPUT: frozenset(METHODS),
    pb.GRADIENT_TARGET: frozenset({"CrossEntropy", "BCE", "BCEWithLogits", "KLDivergence"}),
    pb.GRADIENT_WEIGHT: frozenset({"CrossEntropy"}),
}
AUXILIARY: Mapping[str, int] = {name: pb.Output.Value(f"OUTPUT_{name.upper()}") for name in OUTPUT_FIELDS}
SUMMARY = ("loss_sum", "weight_sum", "count")
# Fields of requests that outputs ask for here, that the model's name says, or that need shared memory.
NOT_OPTIONS = frozenset({"gradients", "outputs", "placements", "function"})


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One loss. function: an ActivationFunction, 0 for the others. inputs: tensors by name; options: by name, fields
    of the request. result: what its loss is called. given: outputs of a request that asks for none.

    outputs: all that there are. Of gradients more may be asked for: the loss says why it has none.
    """

    name: str
    rpc: str
    function: int
    inputs: tuple[str, ...]
    options: Mapping[str, FieldDescriptor]
    result: str
    given: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def required(self) -> tuple[str, ...]:
        """The inputs without which nothing is computed."""
        return tuple(name for name in self.inputs if name in ("input", "target"))


def _model(name: str, rpc: str, function: int = 0, without: tuple[str, ...] = ()) -> Model:
    request: Descriptor = METHODS[rpc].input_type
    inputs = tuple(field.name for field in request.fields if field.message_type is TENSOR)
    options = {
        field.name: field
        for field in request.fields
        if field.message_type is None and field.name not in NOT_OPTIONS and field.name not in without
    }
    result, summary = ("output", ()) if function else ("loss", SUMMARY)
    given = (result, *summary)
    auxiliary = tuple(AUXILIARY) if "outputs" in request.fields_by_name else ()
    gradients = tuple(name for name, gradient in GRADIENTS.items() if rpc in WITH_GRADIENT[gradient])
    return Model(name, rpc, function, inputs, options, result, given, (*given, *gradients, *auxiliary))


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        _model("entropy", "Entropy"),
        _model("cross_entropy", "CrossEntropy"),
        _model("bce", "BCE"),
        _model("bce_with_logits", "BCEWithLogits"),
        _model("kl_divergence", "KLDivergence"),
        _model("nll", "NLL"),
        _model("self_information", "SelfInformation"),
        # An activation has nothing to reduce.
        _model("softmax", "Activation", pb.ACTIVATION_FUNCTION_SOFTMAX, ("reduction",)),
        _model("log_softmax", "Activation", pb.ACTIVATION_FUNCTION_LOG_SOFTMAX, ("reduction",)),
        _model("sigmoid", "Activation", pb.ACTIVATION_FUNCTION_SIGMOID, ("reduction", "dim")),
        _model("log_sigmoid", "Activation", pb.ACTIVATION_FUNCTION_LOG_SIGMOID, ("reduction", "dim")),
    )
}


def model_of(name: str, version: str, field: str = "name") -> Model:
    """The model of that name. field: where the request says it. Raises NotFound."""
    model = MODELS.get(name)
    if model is None:
        shown = shorten(name, SHOWN_BYTES)
        raise NotFound(
            f"there is no model {shown!r}; the models are {', '.join(MODELS)}",
            reason="UNKNOWN_MODEL",
            field=field,
            metadata={"model": shown, "models": ", ".join(MODELS)},
        )
    if version not in ("", VERSION):
        shown = shorten(version, SHOWN_BYTES)
        raise NotFound(
            f"model {name} has no version {shown!r}: its one version is {VERSION!r}, or leave it empty",
            reason="UNKNOWN_VERSION",
            field=field.replace("name", "version"),
            metadata={"model": name, "version": shown},
        )
    return model


def unknown_name(reason: str, name: str, model: Model, known: Iterable[str]) -> InvalidRequest:
    """The refusal of an input, output or parameter that the model does not have: UNKNOWN_INPUT, …"""
    what = reason.removeprefix("UNKNOWN_").lower()
    shown, taken = shorten(name, SHOWN_BYTES), ", ".join(known)
    return invalid(
        f"{model.name} has no {what} {shown!r}; it has {taken}",
        reason,
        f"{what}s",
        name=shown,
        model=model.name,
        known=taken,
    )

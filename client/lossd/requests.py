"""From a method's name, tensors and options to its message: pure, and the same for every transport.

A method's options are its request message's fields, by the same names; how each is written follows from its field's
type. So the contract is the only table of options there is, and a new field is a new option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from math import nan
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message

from lossd import legacy, results, tensors
from lossd.errors import InvalidArgument, TooLarge
from lossd.options import TensorName
from lossd.results import Result
from lossd.v1 import loss_pb2, service_pb2
from lossd.values import enumeration, enumerations, flag, integer, number

# Takes the option's name and value, gives the field's value.
Write = Callable[[str, Any], Any]

# Fields that are no options: set by the method itself, or by a transport.
_NOT_OPTIONS = frozenset({"placements", "function"})
_NUMBERS: Mapping[int, Write] = {FieldDescriptor.TYPE_DOUBLE: number, FieldDescriptor.TYPE_INT64: integer}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A verb of the client. legacy: takes size_average and reduce. log_target: takes log_target."""

    rpc: str
    tensors: tuple[str, ...] = ("input", "target")
    function: loss_pb2.ActivationFunction.ValueType = loss_pb2.ACTIVATION_FUNCTION_UNSPECIFIED
    legacy: bool = False
    log_target: bool = False
    without: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "entropy": Method(rpc="Entropy", tensors=("input",)),
    "cross_entropy": Method(rpc="CrossEntropy", legacy=True),
    "bce": Method(rpc="BCE", legacy=True),
    "bce_with_logits": Method(rpc="BCEWithLogits", legacy=True),
    "kl_divergence": Method(rpc="KLDivergence", legacy=True, log_target=True),
    "nll": Method(rpc="NLL", legacy=True),
    "self_information": Method(rpc="SelfInformation", tensors=("input",)),
    "softmax": Method(rpc="Activation", tensors=("input",), function=loss_pb2.ACTIVATION_FUNCTION_SOFTMAX),
    "log_softmax": Method(rpc="Activation", tensors=("input",), function=loss_pb2.ACTIVATION_FUNCTION_LOG_SOFTMAX),
    "sigmoid": Method(
        rpc="Activation", tensors=("input",), function=loss_pb2.ACTIVATION_FUNCTION_SIGMOID, without=("dim",)
    ),
    "log_sigmoid": Method(
        rpc="Activation", tensors=("input",), function=loss_pb2.ACTIVATION_FUNCTION_LOG_SIGMOID, without=("dim",)
    ),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One evaluation, ready for any transport. torch: the tensors that were given as torch's."""

    method: str
    rpc: str
    request: Message = field(repr=False)
    response: type[Message] = field(repr=False)
    gradients: tuple[TensorName, ...]
    outputs: bool
    torch: frozenset[str]

    def body(self) -> bytes:
        """The serialised request: the same for every attempt."""
        try:
            return self.request.SerializeToString()
        except EncodeError:
            raise TooLarge(
                "the request exceeds 2 GiB, the most that a message can hold", reason="MESSAGE_TOO_LARGE"
            ) from None

    def parse(self, response: Message, total_s: float = nan) -> Result:
        """What the answer says. total_s: the call's seconds, as its caller saw them."""
        return results.read(response, torch=self.torch, gradients=self.gradients, outputs=self.outputs, total_s=total_s)

    def array(self, response: Message) -> tensors.Tensor:
        """An activation's value, as the kind of array that its input was given as."""
        return tensors.give(response.loss, torch="input" in self.torch)  # type: ignore[attr-defined]  # Activation's


def build(method: str, /, *operands: tensors.Tensor, **options: Any) -> Call:
    """The call of `method` ("cross_entropy", a key of METHODS) on its tensors.

    Options that are None are absent. An unknown option is a TypeError, as Python's; an unknown value InvalidArgument.
    """
    spec = METHODS.get(method)
    if spec is None:
        raise _unknown_method(method)
    request, response, writers = _messages(method)
    if len(operands) != len(spec.tensors):
        expected = ", ".join(spec.tensors)
        raise TypeError(f"{method}() takes {len(spec.tensors)} tensors ({expected}), not {len(operands)}")
    if spec.legacy and ("size_average" in options or "reduce" in options):
        legacy.replace(options)
    if spec.log_target and "log_target" in options:
        _replace_log_target(options)
    torch = []
    fields: dict[str, Any] = {}
    for name, value in (*zip(spec.tensors, operands, strict=True), *options.items()):
        writer = writers.get(name)
        if writer is None:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
        if name in fields:
            raise TypeError(f"{method}() got multiple values for argument {name!r}")
        if value is None:
            if name in spec.tensors:
                raise InvalidArgument(f"{name} is None: it must be a tensor", field=name, reason="MISSING_FIELD")
            continue
        if writer is tensors.take:
            operand = tensors.take(name, value)
            fields[name] = {"dtype": operand.dtype, "shape": operand.shape, "data": operand.data}
            if operand.torch:
                torch.append(name)
        else:
            fields["gradients" if name == "grad" else name] = writer(name, value)
    if spec.function:
        fields["function"] = spec.function
    gradients: tuple[TensorName, ...] = tuple(_GRADIENTS[number] for number in fields.get("gradients", ()))
    return Call(method, spec.rpc, request(**fields), response, gradients, bool(fields.get("outputs")), frozenset(torch))


_GRADIENTS: dict[int, TensorName] = {
    loss_pb2.GRADIENT_INPUT: "input",
    loss_pb2.GRADIENT_TARGET: "target",
    loss_pb2.GRADIENT_WEIGHT: "weight",
}


@cache
def _messages(method: str) -> tuple[type[Message], type[Message], dict[str, Write]]:
    """A method's request and response classes, and what writes each of its tensors and options."""
    spec = METHODS[method]
    request = getattr(service_pb2, f"{spec.rpc}Request")
    writers = {
        "grad" if entry.name == "gradients" else entry.name: _writer(entry)
        for entry in request.DESCRIPTOR.fields
        if entry.name not in _NOT_OPTIONS and entry.name not in spec.without
    }
    if spec.function:
        # There is nothing to reduce, and the message's field says so to clients that try.
        del writers["reduction"]
    return request, getattr(service_pb2, f"{spec.rpc}Response"), writers


def _writer(entry: FieldDescriptor) -> Write:
    if entry.message_type is not None:
        return tensors.take
    if entry.enum_type is None:
        return _NUMBERS[entry.type]
    values = _values(entry.enum_type)
    if entry.name == "gradients":
        return partial(_gradients, values)
    return partial(enumerations if entry.name == "outputs" else enumeration, values)


def _values(enum: EnumDescriptor) -> dict[str, int]:
    """{"log_probabilities": KIND_LOG_PROBABILITIES, …}: without the prefix that buf's rules ask for."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def _gradients(values: dict[str, int], name: str, value: Any) -> list[int]:
    if isinstance(value, bool):
        return [loss_pb2.GRADIENT_INPUT] if value else []
    return enumerations(values, name, value)


def _replace_log_target(options: dict[str, Any]) -> None:
    """PyTorch's log_target=True says target_kind="log_probabilities"."""
    log_target = options.pop("log_target")
    if log_target is None or not flag("log_target", log_target):
        return
    if options.get("target_kind") not in (None, "log_probabilities"):
        sentence = f"log_target = True contradicts target_kind = {options['target_kind']!r}"
        raise InvalidArgument(sentence, field="log_target", reason="CONTRADICTION")
    options["target_kind"] = "log_probabilities"


def _unknown_method(method: str) -> InvalidArgument:
    sentence = f"method = {method!r} is none of {', '.join(METHODS)}"
    return InvalidArgument(sentence, field="method", reason="UNKNOWN_ENUM", metadata={"value": str(method)})

"""Request builder: from a method's name, tensors and options to its message. Pure, the same for every transport.

A method's options are its request message's fields, by the same names; how each is written follows from its field's
type. So the contract is the only table of options there is, and a new field is a new option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lossd import contract, wire
from lossd.errors import InvalidArgument, TooLarge, shown_value
from lossd.options import Tensor, TensorName
from lossd.request import gradient_outputs, legacy_reduction, tensors
from lossd.request.option_values import (
    did_you_mean,
    enumeration,
    enumerations,
    flag,
    integer_option,
    is_plain,
    number_option,
    unknown_value,
)
from lossd.request.tensors import Operand
from lossd.v1 import loss_pb2, service_pb2

# Takes the option's name and value, gives the field's value.
Write = Callable[[str, Any], Any]

# Fields that are no options: set by the method itself, or by a transport.
_NOT_OPTIONS = frozenset({"placements", "function"})
_NUMBERS: Mapping[int, Write] = {FieldDescriptor.TYPE_DOUBLE: number_option, FieldDescriptor.TYPE_INT64: integer_option}


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


MAPPED_BYTES = 1 << 20
# The most that a protobuf message can hold.
MOST_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What a method and its options, without tensors, say. encoded: the options' fields of the request, serialised."""

    method: str
    rpc: str
    fields: Mapping[str, Any]
    encoded: bytes
    gradients: tuple[TensorName, ...]
    request: type[Message] = field(repr=False)
    response: type[Message] = field(repr=False)


# Changed by nobody. Frozen, it would take 0.2 µs more to make, a tenth of all that a small call costs here.
@dataclass(slots=True)
class Call:
    """One evaluation, ready for any transport. operands: by field, as given. out: where gradients are written.

    placements: fields of the request that name such places in shared memory, serialised.
    """

    asked: Asked
    operands: dict[str, Operand]
    out: Mapping[str, gradient_outputs.GradientOutput]
    placements: bytes = b""

    @property
    def rpc(self) -> str:
        return self.asked.rpc

    @property
    def request(self) -> Message:
        """The whole message, as the generated class has it."""
        return self.asked.request.FromString(self.body())

    @property
    def nbytes(self) -> int:
        """Of all tensors that do not lie in shared memory."""
        size = 0
        for operand in self.operands.values():
            if operand.at is None:
                # Not by `nbytes`, a property: this is asked of every small call, some times.
                size += operand.values.nbytes if type(operand) is Operand else operand.nbytes
        return size

    @property
    def is_mapped(self) -> bool:
        """Whether a large tensor lies in a file that is mapped into memory."""
        return any(one.nbytes >= MAPPED_BYTES and one.is_mapped() for one in self.operands.values())

    def checked(self) -> Call:
        """The same call, once no large uint64 tensor has a number that the wire cannot hold: one pass over them."""
        return replace(self, operands={name: one.checked(name) for name, one in self.operands.items()})

    def owned(self) -> Call:
        """The same call, checked, its tensors in memory that the caller cannot change any more."""
        return replace(self, operands={name: one.checked(name).owned() for name, one in self.operands.items()})

    def parts(self) -> list[bytes | memoryview]:
        """The serialised request in pieces: header and elements of each tensor, the options, the placements."""
        parts: list[bytes | memoryview] = []
        numbers = _tensors(self.asked.method)
        for name, operand in self.operands.items():
            if operand.at is None:
                parts.append(wire.tensor_header(numbers[name], operand.dtype, operand.values.shape))
                parts.append(operand.data())
            else:
                parts.append(wire.message_field(numbers[name], operand.reference()))
        parts.append(self.asked.encoded)
        parts.append(self.placements)
        return parts

    def body(self) -> bytes:
        """The serialised request, made anew each time: each tensor is copied once, into it."""
        if self.nbytes > MOST_BYTES - (1 << 16):
            raise TooLarge(
                "the request exceeds 2 GiB, the most that a message can hold", reason="MESSAGE_TOO_LARGE"
            ) from None
        return b"".join(self.parts())


def build(method: str, /, *operands: Tensor, out: gradient_outputs.Given = None, **options: Any) -> Call:
    """The call of `method` ("cross_entropy", a key of METHODS) on its tensors.

    Options that are None are absent. An unknown option is a TypeError, as Python's; an unknown value InvalidArgument.
    """
    spec = METHODS.get(method)
    if spec is None:
        raise unknown_value("method", method, tuple(METHODS))
    if len(operands) != len(spec.tensors):
        expected = ", ".join(spec.tensors)
        raise TypeError(f"{method}() takes {len(spec.tensors)} tensors ({expected}), not {len(operands)}")
    if spec.legacy and ("size_average" in options or "reduce" in options):
        legacy_reduction.replace(options)
    if spec.log_target and "log_target" in options:
        _replace_log_target(options)
    taken: dict[str, Operand] = {}
    for name, value in zip(spec.tensors, operands, strict=True):
        if value is None:
            raise InvalidArgument(f"{name} is None: it must be a tensor", field=name, reason="MISSING_FIELD")
        taken[name] = tensors.take(name, value)
    asked = _asked_of(method, taken, options) if options else _remembered(method)
    return Call(
        asked,
        taken,
        gradient_outputs.NONE if out is None else gradient_outputs.check_outputs(out, asked.gradients, taken),
    )


def _asked_of(method: str, taken: dict[str, Operand], options: Mapping[str, Any]) -> Asked:
    """What the options say; tensors among them are added to `taken`."""
    numbers = _tensors(method)
    plain: dict[str, Any] = {}
    remember = True
    for name, value in options.items():
        if name in numbers:
            if name in taken:
                raise TypeError(f"{method}() got multiple values for argument {name!r}")
            if value is not None:
                taken[name] = tensors.take(name, value)
        elif value is not None:
            plain[name] = value
            remember = remember and is_plain(value)
        elif name not in _messages(method)[2]:
            raise unexpected(method, name)
    return (_remembered if remember else _ask)(method, **plain)


def _ask(method: str, /, **plain: Any) -> Asked:
    spec = METHODS[method]
    request, response, writers = _messages(method)
    fields: dict[str, Any] = {}
    for name, value in plain.items():
        writer = writers.get(name)
        if writer is None:
            raise unexpected(method, name)
        fields["gradients" if name == "grad" else name] = writer(name, value)
    if spec.function:
        fields["function"] = spec.function
    gradients: tuple[TensorName, ...] = tuple(_GRADIENTS[number] for number in fields.get("gradients", ()))
    return Asked(method, spec.rpc, fields, request(**fields).SerializeToString(), gradients, request, response)


# typed: True is a gradient, 1 is an error.
_remembered = lru_cache(maxsize=512, typed=True)(_ask)


_GRADIENTS: dict[int, TensorName] = {
    loss_pb2.GRADIENT_INPUT: "input",
    loss_pb2.GRADIENT_TARGET: "target",
    loss_pb2.GRADIENT_WEIGHT: "weight",
}


@cache
def _tensors(method: str) -> dict[str, int]:
    """The tensors that a method takes, and their fields' numbers."""
    request, _, writers = _messages(method)
    return {name: request.DESCRIPTOR.fields_by_name[name].number for name in writers if writers[name] is tensors.take}


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


def option_names(method: str) -> list[str]:
    """Every keyword that a method takes."""
    spec = METHODS[method]
    names = [name for name in _messages(method)[2] if name not in spec.tensors]
    if spec.function:  # the client's activations are values alone
        return [*(name for name in names if not name.startswith("grad")), "timeout", "transport"]
    names += ["size_average", "reduce"] if spec.legacy else []
    names += ["log_target"] if spec.log_target else []
    return [*names, "out", "progress", "timeout", "transport"]


def _writer(entry: FieldDescriptor) -> Write:
    if entry.message_type is not None:
        return tensors.take
    if entry.enum_type is None:
        return _NUMBERS[entry.type]
    known = {name: number for number, name in contract.value_names(entry.enum_type).items()}
    taken = contract.KINDS.get((entry.containing_type.name if entry.containing_type else "", entry.name))
    if taken is not None:
        values = {name: known[name] for name in taken}
        return partial(enumeration, values, elsewhere=known.keys() - values.keys())
    if entry.name == "gradients":
        return partial(_gradients, known)
    return partial(enumerations if entry.name == "outputs" else enumeration, known)


def _gradients(values: dict[str, int], name: str, value: Any) -> list[int]:
    if isinstance(value, bool):
        return [loss_pb2.GRADIENT_INPUT] if value else []
    return enumerations(values, name, value, also=(True, False))


def _replace_log_target(options: dict[str, Any]) -> None:
    """PyTorch's log_target=True says target_kind="log_probabilities"."""
    log_target = options.pop("log_target")
    if log_target is None or not flag("log_target", log_target):
        return
    if options.get("target_kind") not in (None, "log_probabilities"):
        sentence = f"log_target = True contradicts target_kind = {shown_value(options['target_kind'])}"
        raise InvalidArgument(sentence, field="log_target", reason="CONTRADICTION")
    options["target_kind"] = "log_probabilities"


def unexpected(method: str, name: str) -> TypeError:
    known = option_names(method)
    return TypeError(f"{method}() got an unexpected keyword argument {name!r}{did_you_mean(name, known)}")

"""Parameters of an inference request: the options of its loss, read as their fields' types say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from lossd.contract import value_names
from lossd_server.errors import InvalidRequest, NotServed, invalid
from lossd_server.inference.models import SHOWN_BYTES, Model, unknown_name
from lossd_server.tensors.request_fields import Fields
from lossd_server.wire.status import shorten

# Clients that know no doubles send numbers as text.
DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,5})?", re.ASCII)
MOST_DIGITS = 64
INT64 = range(-(2**63), 2**63)

TIMEOUT, FINAL = "timeout", "triton_enable_empty_final_response"
# What Triton's clients may send beside options, and why it is not taken.
NOT_TAKEN: Mapping[str, str] = {
    "sequence_id": "evaluations are independent: they make no sequences",
    "sequence_start": "evaluations are independent: they make no sequences",
    "sequence_end": "evaluations are independent: they make no sequences",
    "priority": "every connection has the same share: there are no priorities",
}


@dataclass(frozen=True, slots=True)
class CallParameters:
    """What a request says beside its loss's options. timeout_s: until it is given up. final: whether its answer is to
    say that none follows, as clients ask who do not know that there is one for each request."""

    timeout_s: float = inf
    final: bool = False


NOTHING = CallParameters()


def read_parameters(parameters: Mapping[str, Any], model: Model, fields: Fields) -> CallParameters:
    """Puts the options into `fields`. Raises InvalidRequest: UNKNOWN_PARAMETER, WRONG_TYPE, UNKNOWN_ENUM,
    OPTION_OUT_OF_RANGE, OPTION_NOT_TAKEN."""
    if not parameters:
        return NOTHING
    timeout_s, final = inf, False
    for name, parameter in parameters.items():
        option = model.options.get(name)
        if option is not None:
            value = _value(option, parameter)
            # Where absent and 0 are the same, 0 is absent.
            if value or option.has_presence:
                fields[name] = value
        elif name == TIMEOUT:
            timeout_s = _timeout_s(parameter)
        elif name == FINAL:
            final = _flag(name, parameter)
        elif name in NOT_TAKEN:
            raise invalid(
                f"{name} is not taken: {NOT_TAKEN[name]}", "OPTION_NOT_TAKEN", "parameters", name=name, model=model.name
            )
        else:
            raise unknown_name("UNKNOWN_PARAMETER", name, model, model.options)
    return CallParameters(timeout_s, final)


def require_none(parameters: Mapping[str, Any], name: str) -> None:
    """Of an input or an output, `name`. Raises NotServed for shared memory and classification, else InvalidRequest."""
    for given in parameters:
        shown = shorten(given, SHOWN_BYTES)
        if given.startswith("shared_memory_") or given == "classification":
            what = "classification" if given == "classification" else "shared memory of this protocol"
            raise NotServed(
                f"{name} has the parameter {shown}: {what} is not offered", reason="NOT_SERVED", field=name,
                metadata={"name": name, "parameter": shown},
            )  # fmt: skip
        raise invalid(
            f"{name} has the parameter {shown!r}: inputs and outputs have none", "UNKNOWN_PARAMETER", name, name=shown
        )


def _value(option: FieldDescriptor, parameter: Any) -> Any:
    kind, value = _given(option.name, parameter)
    if option.enum_type is not None:
        return _named(option, kind, value)
    if option.type == FieldDescriptor.TYPE_INT64:
        return _integer(option.name, kind, value)
    if kind in ("double_param", "int64_param", "uint64_param"):
        return float(value)
    if kind == "string_param" and len(value) <= MOST_DIGITS and DECIMAL.fullmatch(value):
        return float(value)
    raise _wrong_type(option.name, "a number", value)


def _named(option: FieldDescriptor, kind: str, value: Any) -> int:
    words = value_names(option.enum_type)
    if kind != "string_param":
        raise _wrong_type(option.name, f"one of {', '.join(words.values())} as a string", value)
    for number, word in words.items():
        if word == value:
            return number
    shown, taken = shorten(value, SHOWN_BYTES), ", ".join(words.values())
    raise invalid(
        f"{option.name} = {shown!r} is not one of {taken}", "UNKNOWN_ENUM", option.name, value=shown, taken=taken
    )


def _integer(name: str, kind: str, value: Any) -> int:
    if kind == "string_param" and len(value) <= MOST_DIGITS and re.fullmatch(r"[+-]?\d+", value, re.ASCII):
        value = int(value)
    elif kind not in ("int64_param", "uint64_param"):
        raise _wrong_type(name, "an integer", value)
    if value not in INT64:
        raise invalid(
            f"{name} = {value} does not fit 64 bits", "OPTION_OUT_OF_RANGE", name, value=value, bound="[-2^63, 2^63)"
        )
    whole: int = value
    return whole


def _timeout_s(parameter: Any) -> float:
    """Microseconds, as Triton's clients send it."""
    kind, value = _given(TIMEOUT, parameter)
    micros = _integer(TIMEOUT, kind, value)
    if micros <= 0:
        raise invalid(
            f"timeout = {micros} is outside [1, 2^63) microseconds", "OPTION_OUT_OF_RANGE", TIMEOUT, value=micros
        )
    return micros / 1e6


def _flag(name: str, parameter: Any) -> bool:
    kind, value = _given(name, parameter)
    if kind != "bool_param":
        raise _wrong_type(name, "true or false", value)
    flag: bool = value
    return flag


def _given(name: str, parameter: Any) -> tuple[str, Any]:
    kind: str | None = parameter.WhichOneof("parameter_choice")
    if kind is None:
        raise invalid(f"{name} has no value", "WRONG_TYPE", name, name=name)
    return kind, getattr(parameter, kind)


def _wrong_type(name: str, must: str, value: Any) -> InvalidRequest:
    shown = shorten(repr(value[:SHOWN_BYTES] if isinstance(value, str) else value), SHOWN_BYTES)
    return invalid(f"{name} must be {must}, not {shown}", "WRONG_TYPE", name, value=shown)

"""JSON of a request: the fields of its loss's message, by the names that the client has for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from lossd.contract import value_names
from lossd.rpc.json_text import read_json
from lossd.v1 import loss_pb2
from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest, TooLarge, invalid
from lossd_server.http.json.tensors import INT64, WORDS, is_whole, read_tensor
from lossd_server.inference.models import AUXILIARY, SHOWN_BYTES, Model
from lossd_server.tensors.array import FLOATS
from lossd_server.tensors.request_fields import Fields
from lossd_server.wire.codec import encode_request
from lossd_server.wire.status import shorten

ENCODINGS = ("numbers", "base64")
# Python reads JSON in one step, during which no other thread runs: as many entries take 2 to 6 ms, whatever they are.
MOST_ENTRIES = 1 << 16
GRADS: Mapping[str, int] = {
    "input": loss_pb2.GRADIENT_INPUT,
    "target": loss_pb2.GRADIENT_TARGET,
    "weight": loss_pb2.GRADIENT_WEIGHT,
}
# Losses whose targets may be class indices, and what target_kind says where they are none.
INDEXED = frozenset({"CrossEntropy", "NLL"})


class JsonRequest(NamedTuple):
    """message: the protobuf message. encoding: how the answer's tensors are to be written."""

    message: bytes
    encoding: str


def read_request(model: Model, body: bytes) -> JsonRequest:
    """Raises InvalidRequest for what is no JSON, or has names or values that no such message has, and TooLarge."""
    given = _object(body)
    fields: Fields = {"function": model.function} if model.function else {}
    encoding = ENCODINGS[0]
    names = taken_names(model)
    for name, value in given.items():
        option = model.options.get(name)
        if name not in names:
            shown = shorten(name, SHOWN_BYTES)
            raise invalid(
                f"{model.name} has no {shown!r}; it has {', '.join(names)}",
                "UNKNOWN_PARAMETER",
                shown,
                name=shown,
                model=model.name,
                known=", ".join(names),
            )
        if value is None:  # as if it were not there
            continue
        if option is not None:
            number = _option(option, value)
            if number or option.has_presence:
                fields[name] = number
        elif name == "grad":
            asked = ["input"] if value is True else [] if value is False else value
            fields["gradients"] = _each(name, asked, GRADS)
        elif name == "outputs":
            fields["outputs"] = _each(name, value, AUXILIARY)
        elif name == "encoding":
            encoding = _word(name, value, ENCODINGS)
    _read_tensors(model, given, fields)
    return JsonRequest(encode_request(model.rpc, fields), encoding)


def taken_names(model: Model) -> tuple[str, ...]:
    """All names that a request of this loss may have."""
    auxiliary = ("outputs",) if set(AUXILIARY) & set(model.outputs) else ()
    return (*model.inputs, *model.options, "grad", *auxiliary, "encoding")


def _read_tensors(model: Model, given: Mapping[str, Any], fields: Fields) -> None:
    for name in model.inputs:  # the input is the first
        value = given.get(name)
        if value is None:
            continue
        found = fields.get("input")
        floats = found.dtype if found is not None and found.dtype in FLOATS else pb.DATA_TYPE_FLOAT64
        indices = name == "target" and model.rpc in INDEXED and _may_be_indices(fields)

        def dtype_of(numbers: list[Any], floats: int = floats, indices: bool = indices) -> int:
            if numbers and all(type(one) is bool for one in numbers):
                return pb.DATA_TYPE_BOOL
            return pb.DATA_TYPE_INT64 if indices and is_whole(numbers) else floats

        fields[name] = read_tensor(name, value, dtype_of)


def _may_be_indices(fields: Fields) -> bool:
    return fields.get("target_kind", 0) in (0, loss_pb2.KIND_INDICES)


def _object(body: bytes) -> Mapping[str, Any]:
    entries = sum(map(body.count, (b",", b"[", b"{")))
    if entries > MOST_ENTRIES:
        raise TooLarge(
            f"the body has {entries} numbers and lists, {MOST_ENTRIES} are taken over HTTP: send base64,"
            " or use gRPC (lossd.Client), which has no such limit",
            reason="BODY_TOO_LARGE",
            metadata={"entries": entries, "bound": MOST_ENTRIES},
        )
    try:
        given = read_json(body, _pairs, _no_constant)
    except InvalidRequest:
        raise
    except ValueError as error:  # UnicodeDecodeError and a number of thousands of digits too
        raise _not_json(shorten(str(error), SHOWN_BYTES), len(body)) from None
    if not isinstance(given, dict):
        raise _not_json("it must be an object", len(body))
    return given


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f'{word} is no JSON: write "{word}"')


def _not_json(why: str, size: int) -> InvalidRequest:
    return invalid(f"the body of {size} bytes is no JSON of a request: {why}", "NOT_JSON", bytes=size)


def _option(option: FieldDescriptor, value: Any) -> float | int:
    name = option.name
    if option.enum_type is not None:
        words = {word: number for number, word in value_names(option.enum_type).items()}
        return words[_word(name, value, words)]
    if option.type == FieldDescriptor.TYPE_INT64:
        if type(value) is not int or value not in INT64:
            raise _wrong_type(name, "a whole number of 64 bits", value)
        return value
    if type(value) is str and value in WORDS:
        return WORDS[value]
    if type(value) not in (int, float):
        raise _wrong_type(name, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise _wrong_type(name, "a number within float64", value) from None


def _each(name: str, value: Any, words: Mapping[str, int]) -> list[int]:
    if not isinstance(value, list):
        raise _wrong_type(name, f"a list of {', '.join(words)}", value)
    return [words[_word(name, one, words)] for one in value]


def _word(name: str, value: Any, words: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in words:
        shown, taken = shorten(value, SHOWN_BYTES) if isinstance(value, str) else _shown(value), ", ".join(words)
        raise invalid(f"{name} = {shown!r} is not one of {taken}", "UNKNOWN_ENUM", name, value=shown, taken=taken)
    return value


def _wrong_type(name: str, must: str, value: Any) -> InvalidRequest:
    shown = _shown(value)
    return invalid(f"{name} must be {must}, not {shown}", "WRONG_TYPE", name, value=shown)


def _shown(value: Any) -> str:
    """As a sentence shows it: of a large value only what it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return shorten(json.dumps(value), SHOWN_BYTES)

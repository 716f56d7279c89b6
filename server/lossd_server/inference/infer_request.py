"""Inference requests: their tensors and options as the fields of the loss's own request. Pure; no bytes are copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossd_server.errors import InvalidRequest, invalid
from lossd_server.inference.contents import SplitRequest, typed_elements
from lossd_server.inference.models import AUXILIARY, DATATYPES, GRADIENTS, SHOWN_BYTES, Model, unknown_name
from lossd_server.inference.parameters import require_none
from lossd_server.tensors.request_fields import Fields, WireTensor, require_rank
from lossd_server.wire.status import shorten


def tensor_fields(request: SplitRequest, model: Model) -> tuple[Fields, int]:
    """The tensors by name, views of the message; and the bytes of those that had to be copied.

    Raises InvalidRequest and NotServed. Lengths and shapes are the loss's to check.
    """
    inputs, raw, typed = request.message.inputs, request.raw, request.typed
    fields: Fields = {}
    copied = 0
    for place, sent in enumerate(inputs):
        name = sent.name
        if name not in model.inputs:
            raise unknown_name("UNKNOWN_INPUT", name, model, model.inputs)
        if name in fields:
            raise invalid(f"{name} is there twice", "DUPLICATE_INPUT", name, name=name)
        if sent.parameters:
            require_none(sent.parameters, name)
        if raw and place in typed:
            raise _mixed(name)
        dtype = DATATYPES.get(sent.datatype)
        if dtype is None:
            raise _datatype(name, sent.datatype)
        shape = sent.shape
        require_rank(name, len(shape))
        data: bytes | memoryview = b""
        if place in typed:
            data = typed_elements(name, dtype, typed[place])
            copied += len(data) if isinstance(data, bytes) else 0
        elif place < len(raw):
            data = raw[place]
        fields[name] = WireTensor(dtype, tuple(shape), "data", data)
    if raw and len(raw) != len(inputs):
        raise invalid(
            f"there are {len(raw)} raw_input_contents for {len(inputs)} inputs: each input has one",
            "CONTENTS_MISMATCH",
            "raw_input_contents",
            contents=len(raw),
            inputs=len(inputs),
        )
    if model.function:
        fields["function"] = model.function
    return fields, copied


def read_outputs_asked(outputs: Sequence[Any], model: Model, fields: Fields) -> tuple[str, ...]:
    """The names of the outputs that are to be sent, in their order. Puts what asks for them into `fields`."""
    if not outputs:
        return model.given
    names: dict[str, None] = {}
    for output in outputs:
        name = output.name
        if name not in model.outputs and name not in GRADIENTS:
            raise unknown_name("UNKNOWN_OUTPUT", name, model, model.outputs)
        if name in names:
            raise invalid(f"output {name} is asked for twice", "DUPLICATE_OUTPUT", "outputs", name=name)
        if output.parameters:
            require_none(output.parameters, name)
        names[name] = None
    gradients = [GRADIENTS[name] for name in names if name in GRADIENTS]
    auxiliary = [AUXILIARY[name] for name in names if name in AUXILIARY]
    if gradients:
        fields["gradients"] = gradients
    if auxiliary:
        fields["outputs"] = auxiliary
    return tuple(names)


def _mixed(name: str) -> InvalidRequest:
    return invalid(
        f"{name} has contents, and there are raw_input_contents: a request has the one or the other",
        "MIXED_CONTENTS",
        name,
        name=name,
    )


def _datatype(name: str, datatype: str) -> InvalidRequest:
    shown, taken = shorten(datatype, SHOWN_BYTES), ", ".join(DATATYPES)
    return invalid(
        f"{name} has datatype {shown!r}, which is not one of {taken}",
        "DTYPE_NOT_TAKEN",
        name,
        dtype=shown,
        taken=taken,
    )

"""Request templates: the bytes of a small call's message, save the elements of its tensors, which are put in.

`recall` fills the template of a call like one before: of the same method, dtypes, shapes and options. The general way
(`build`, `Call.body`) makes the same bytes, and whatever has no template goes by it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lossd import results, wire
from lossd.fast_path import answer_template
from lossd.fast_path.answer_template import AnswerTemplate
from lossd.options import Tensor
from lossd.request import gradient_outputs
from lossd.request.build import Call, build
from lossd.request.option_values import is_plain
from lossd.request.tensors import Operand
from lossd.results import Result
from lossd.routing.block_plan import answer_bytes, request_bytes
from lossd.v1 import service_pb2

# Of the tensors of a call that has a template. Those of larger ones are not copied before they are in the message.
MOST_BYTES = 1 << 15
# Calls that are remembered, the least recently used is forgotten first: some KB each, most of it headers.
MOST_REMEMBERED = 512
# By RPC, the field of an Open that holds its request, and of an EvaluationResult that holds its response.
OPEN_FIELDS: Mapping[str, int] = {
    field.message_type.name.removesuffix("Request"): field.number
    for field in service_pb2.Open.DESCRIPTOR.fields
    if field.message_type
}
_RESULT_FIELDS: Mapping[str, int] = {
    field.message_type.name.removesuffix("Response"): field.number
    for field in service_pb2.EvaluationResult.DESCRIPTOR.fields
    if field.message_type
}
# PyTorch's old options warn each time, and what `out` fits is checked each time.
_NEVER = frozenset({"out", "size_average", "reduce"})


class RequestTemplate:
    """What calls have in common that differ in their numbers alone. Thread-safe.

    call: the one that it was made from, its numbers zeros. nbytes: of its tensors. body_bytes: of its message.
    most_bytes: at least those of its request and of its answer. open_head: what stands before it in an Open.
    result_tag: before its answer's length in an EvaluationResult. answer: None before the first was read.
    """

    __slots__ = (
        "_parts",
        "answer",
        "body_bytes",
        "call",
        "most_bytes",
        "nbytes",
        "open_head",
        "result_tag",
        "rpc",
    )

    out = gradient_outputs.NONE

    def __init__(self, call: Call) -> None:
        """`call` has no tensor in shared memory."""
        zeros = {
            name: Operand(one.dtype, np.broadcast_to(np.zeros((), one.values.dtype), one.shape))
            for name, one in call.operands.items()
        }
        self.call = Call(call.asked, zeros, gradient_outputs.NONE)
        self.rpc = call.rpc
        self.nbytes = call.nbytes
        # A free place for a transport's own, then header and elements of each tensor, then the options.
        self._parts: list[Any] = [b"", *call.parts()]
        self.body_bytes = sum(map(len, self._parts))
        self._parts[2 : 2 + 2 * len(zeros) : 2] = [None] * len(zeros)
        self.open_head = wire.tag(OPEN_FIELDS[call.rpc]) + wire.varint(self.body_bytes)
        self.result_tag = wire.tag(_RESULT_FIELDS[call.rpc])[0]
        self.most_bytes = max(request_bytes(self.call), answer_bytes(self.call))
        self.answer: AnswerTemplate | None = None

    def fill(self, tensors: Sequence[np.ndarray[Any, Any]]) -> list[bytes | memoryview]:
        """The request in pieces, the first of them empty. tensors: of the template's dtypes and shapes."""
        parts = self._parts.copy()
        place = 2
        for tensor in tensors:
            parts[place] = tensor.tobytes()
            place += 2
        return parts

    def read(self, body: bytes, total_s: float) -> Result[Any]:
        """What the serialised answer says. Raises as `results.read_result`."""
        known = self.answer
        if known is not None:
            result = known.read(body, total_s)
            if result is not None:
                return result
        response, data = results.parse(self.call.asked.response.DESCRIPTOR, body)
        result = results.from_message(self.call, response, data, total_s)
        self.answer = answer_template.learn(self.call, body, response) or known
        return result


# What reads an answer: a call, or the template of calls like it.
Form = Call | RequestTemplate


def result_of(form: Form, body: bytes, total_s: float) -> Result[Any]:
    """What the serialised answer to a call of that form says."""
    if type(form) is RequestTemplate:
        return form.read(body, total_s)
    assert isinstance(form, Call)
    return results.read_result(form, body, total_s)


def call_of(form: Form) -> Call:
    """The call whose answer has that form: its numbers may be zeros."""
    return form.call if isinstance(form, RequestTemplate) else form


def recall(
    method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], most_bytes: int
) -> tuple[RequestTemplate, list[bytes | memoryview]] | None:
    """The template of calls like this one, and its pieces with this one's numbers; None for the general way.

    most_bytes: what a message may have, either way. Raises what `build` does.
    """
    arrays: Any = operands
    if len(operands) == 2 and not options:
        # Most calls are: half a microsecond less.
        input, target = arrays
        if type(input) is not np.ndarray or type(target) is not np.ndarray:
            return None
        remembered = _remembered(method, input.dtype, input.shape, target.dtype, target.shape)
    else:
        found = _described(arrays, options)
        if found is None:
            return None
        arrays, key = found
        remembered = _remembered(method, *key)
    template = remembered.template
    if template is None:
        template = remembered.meet(method, operands, options, arrays)
        if template is None:
            return None
    return (template, template.fill(arrays)) if template.most_bytes <= most_bytes else None


def _described(operands: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[list[Any], list[Any]] | None:
    """The arrays of a call, and all else that its request depends on; None where that cannot be compared."""
    arrays: list[Any] = []
    key: list[Any] = []
    for value in operands:
        if type(value) is not np.ndarray:
            return None
        arrays.append(value)
        key += value.dtype, value.shape
    for name, value in options.items():
        if name in _NEVER:
            return None
        if type(value) is np.ndarray:
            arrays.append(value)
            key += name, value.dtype, value.shape
        elif is_plain(value):
            # With the type, since 1 is an error where True is not.
            key += name, type(value), value
        else:
            return None
    return arrays, key


class _Remembered:
    """Calls that are alike. A template is made for the second, so that those that never repeat cost no more."""

    __slots__ = ("_met", "template")

    def __init__(self) -> None:
        self._met = 0
        self.template: RequestTemplate | None = None

    def meet(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], arrays: Sequence[Any]
    ) -> RequestTemplate | None:
        """One more of them. arrays: those of its tensors that are numpy's, in order."""
        self._met += 1
        if self._met == 2:
            call = build(method, *operands, **options)
            if call.nbytes <= MOST_BYTES and _are_sent_as_they_are(call, arrays):
                self.template = RequestTemplate(call)
        return self.template


@lru_cache(maxsize=MOST_REMEMBERED)
def _remembered(*_: Any) -> _Remembered:
    return _Remembered()


def _are_sent_as_they_are(call: Call, arrays: Sequence[Any]) -> bool:
    """Whether the call's tensors are those arrays, and their bytes in C order what the wire has."""
    operands = tuple(call.operands.values())
    return len(operands) == len(arrays) and all(
        type(operand) is Operand and operand.values is array and _is_little(array.dtype)
        for operand, array in zip(operands, arrays, strict=True)
    )


def _is_little(dtype: np.dtype[Any]) -> bool:
    return dtype.byteorder in "<|" or (dtype.byteorder == "=" and sys.byteorder == "little")

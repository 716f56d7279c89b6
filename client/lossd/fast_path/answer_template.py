"""Answer templates: where the numbers lie in the answer to a small call, learned from an answer like it.

An answer has its tensors first and Summary and Timing last (the server's `wire.codec`). A template is sure of all bytes
but the elements, and leaves Summary and Timing to the generated classes. An answer that is laid out in any other way,
by another server, say, has no template, and the general way reads it.
"""

from __future__ import annotations

from math import prod
from struct import Struct
from typing import Any, Generic, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from lossd import wire
from lossd.request import tensors
from lossd.request.build import Call
from lossd.results import GradT_co, Result, Summary, Timing
from lossd.v1 import loss_pb2
from lossd.v1 import tensor_pb2 as pb

# Of the fields that every response has.
_OUTPUTS, _SUMMARY, _TIMING = 5, 6, 7
_SUMMARY_TAG, _TIMING_TAG = wire.tag(_SUMMARY)[0], wire.tag(_TIMING)[0]
# The longest length of one byte.
_SHORT = 127
# A Summary as it mostly is: loss_sum, weight_sum and a count below 128, each after its tag.
_USUAL = Struct("<3xdBdBB")
_USUAL_HEAD = bytes((_SUMMARY_TAG, _USUAL.size - 2, 1 << 3 | wire.FIXED64))
_WEIGHT_SUM, _COUNT = 2 << 3 | wire.FIXED64, 3 << 3 | wire.VARINT

# Bytes of a Timing, and what they say in seconds and numbers.
_Said = tuple[bytes, float, float, int, int]


class _Place(NamedTuple):
    """A tensor: its header at byte `at`, its elements in bytes [start, stop). group: which of the results it is."""

    at: int
    start: int
    stop: int
    header: bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    group: str
    name: str


class AnswerTemplate:
    """Reads answers of one layout. Thread-safe.

    places: of all tensors, the loss first; end: of the last. has_summary: activations have none.
    """

    __slots__ = ("_end", "_has_summary", "_loss", "_others", "_said")

    def __init__(self, places: tuple[_Place, ...], end: int, has_summary: bool) -> None:
        self._loss = places[0][:6]
        self._others = places[1:]
        self._end = end
        self._has_summary = has_summary
        # The last Timing: answers of one message have mostly been computed together, and say the same.
        self._said: _Said = b"", 0.0, 0.0, 0, 0

    def read(self, body: bytes, total_s: float) -> Result[Any] | None:
        """What the serialised answer says; None where it is not laid out so."""
        end = timing_at = self._end
        loss_sum = weight_sum = 0.0
        count = 0
        try:
            if self._has_summary:
                found = _summary(body, end)
                if found is None:
                    return None
                loss_sum, weight_sum, count, timing_at = found
            timing = body[timing_at:]
            said = self._said
            if timing != said[0]:
                if timing[0] != _TIMING_TAG or timing[1] > _SHORT or timing[1] != len(timing) - 2:
                    return None
                said = self._said = _say(timing)
        except (DecodeError, IndexError):
            return None
        at, start, stop, header, dtype, shape = self._loss
        if body[at:start] != header:
            return None
        loss = np.ndarray(shape, dtype, bytearray(body[start:stop]))
        grads: dict[str, Any] = {}
        outputs: dict[str, Any] = {}
        for at, start, stop, header, dtype, shape, group, name in self._others:
            if body[at:start] != header:
                return None
            if group == "grads":
                grads[name] = np.ndarray(shape, dtype, bytearray(body[start:stop]))
            elif group == "outputs":
                outputs[name] = np.ndarray(shape, dtype, bytearray(body[start:stop]))
        _, queue_s, compute_s, requests, rows = said
        times: Any = _Timing(queue_s, compute_s, requests, rows, total_s)
        times.__class__ = Timing
        sums: Any = _Summary(loss_sum, weight_sum, count)
        sums.__class__ = Summary
        result: Any = _Result(loss, sums, times, grads, outputs)
        result.__class__ = Result
        return result  # type: ignore[no-any-return]  # it has become one


def _summary(body: bytes, at: int) -> tuple[float, float, int, int] | None:
    """Of the Summary that starts there: loss_sum, weight_sum, count, and where it ends; None where there is none."""
    if body[at : at + 3] == _USUAL_HEAD and len(body) >= at + _USUAL.size:
        loss_sum, second, weight_sum, third, count = _USUAL.unpack_from(body, at)
        if second == _WEIGHT_SUM and third == _COUNT and count <= _SHORT:
            return loss_sum, weight_sum, count, at + _USUAL.size
    end = at + 2 + body[at + 1]
    if body[at] != _SUMMARY_TAG or body[at + 1] > _SHORT or end > len(body):
        return None
    summary = loss_pb2.Summary.FromString(body[at + 2 : end])
    return summary.loss_sum, summary.weight_sum, summary.count, end


def _say(timing: bytes) -> _Said:
    message = loss_pb2.Timing.FromString(timing[2:])
    return timing, message.queue_ns / 1e9, message.compute_ns / 1e9, message.batch_requests, message.batch_rows


def learn(call: Call, body: bytes, response: Any) -> AnswerTemplate | None:
    """The template of answers like `body`, which is `response` serialised; None where it is laid out otherwise.

    call: one that it answers, read by the general way before.
    """
    if len(body) >= wire.LEAST_BYTES:
        return None  # elements are not copied twice there
    found: dict[str, _Place] = {}
    at = 0
    for field, value in response.ListFields():
        if field.number == _OUTPUTS:
            whole = value.SerializeToString()
            before = wire.message_field(_OUTPUTS, whole).removesuffix(whole)
            group, of = "outputs", value.ListFields()
        else:
            before, group, of = b"", "", [(field, value)] if field.number < _OUTPUTS else []
        for one, tensor in of:
            if tensor.dtype not in wire.WIDTHS:
                return None  # nothing that this version asks for
            place = _place(at, before, one, tensor, group)
            found[place.name], at, before = place, place.stop, b""
    made = AnswerTemplate(_wanted(call, found), at, response.HasField("summary"))
    return made if made.read(body, 0.0) is not None else None


def _place(at: int, before: bytes, field: Any, tensor: pb.Tensor, group: str) -> _Place:
    """before: what stands before the tensor's own header."""
    shape = tuple(tensor.shape)
    header = before + wire.tensor_header(field.number, tensor.dtype, shape)
    start, dtype = at + len(header), tensors.numpy_dtype(tensor.dtype)
    return _Place(at, start, start + prod(shape) * dtype.itemsize, header, dtype, shape, group, field.name)


def _wanted(call: Call, found: dict[str, _Place]) -> tuple[_Place, ...]:
    """All places, each with the group of results it belongs to, in the order that results have."""
    gradients = [f"{name}_gradient" for name in call.asked.gradients if f"{name}_gradient" in found]
    wanted = [found.pop("loss")]
    wanted += [found.pop(field)._replace(group="grads", name=field.removesuffix("_gradient")) for field in gradients]
    outputs = "outputs" in call.asked.fields
    return *wanted, *(one if outputs else one._replace(group="") for one in found.values())


class _Summary:
    """A Summary while it is made: it becomes one by its class, for a third of what making a frozen one costs."""

    __slots__ = ("count", "loss_sum", "weight_sum")

    def __init__(self, loss_sum: float, weight_sum: float, count: int) -> None:
        self.loss_sum = loss_sum
        self.weight_sum = weight_sum
        self.count = count


class _Timing:
    """As `_Summary`."""

    __slots__ = ("batch_requests", "batch_rows", "compute_s", "queue_s", "total_s")

    def __init__(self, queue_s: float, compute_s: float, batch_requests: int, batch_rows: int, total_s: float) -> None:
        self.queue_s = queue_s
        self.compute_s = compute_s
        self.batch_requests = batch_requests
        self.batch_rows = batch_rows
        self.total_s = total_s


class _Result(Generic[GradT_co]):
    """As `_Summary`."""

    __slots__ = ("grads", "loss", "outputs", "summary", "timing")

    def __init__(
        self, loss: Any, summary: Summary, timing: Timing, grads: dict[str, Any], outputs: dict[str, Any]
    ) -> None:
        self.loss = loss
        self.summary = summary
        self.timing = timing
        self.grads = grads
        self.outputs = outputs

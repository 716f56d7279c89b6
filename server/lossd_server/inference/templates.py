"""Inference templates: small requests like one before, in all but two tensors' numbers, are not read again.

What lies round the numbers of `input` and `target` in the request's bytes is compared. Then the loss's own request is
put together from bytes made before; where that has a plan (`fast_path`), it is answered at once, and the numbers of its
answer are put between the bytes of a response that was made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any

from google.protobuf.message import DecodeError

from lossd.v1.service_pb2 import EntropyResponse
from lossd.wire import tag, tensor_header, varint
from lossd_server.inference.contents import RAW, SplitRequest
from lossd_server.inference.infer_response import OutputSpec, infer_response_bytes, response_constants
from lossd_server.inference.models import GRADIENTS, SUMMARY, Model
from lossd_server.inference.protocol import ModelInferRequest
from lossd_server.jobs.job import Job
from lossd_server.tensors.request_fields import Fields, WireTensor
from lossd_server.wire import codec

# As many as `fast_path.recall` keeps. What is compared of each has an id and names beside what is compared there: all
# keep some 16 MiB at most.
CAPACITY = 1024
ALIKE = 8
KEY_BYTES = 1 << 12
INPUT, TARGET = 1, 2  # numbers of fields in every loss's request
NUMBERS = {"input_gradient": codec.INPUT_GRADIENT, "target_gradient": codec.TARGET_GRADIENT}


class ResponseTemplate:
    """What a response is made of: bytes, and numbers of the RPC's own response. answer_bytes: of the whole."""

    __slots__ = ("_parts", "_tensors_end", "answer_bytes", "head", "specs")

    def __init__(self, job: Job, head: bytes, specs: Sequence[OutputSpec]) -> None:
        """job: one whose outputs are all in the beginning of its response, or in its summary (`fits_template`)."""
        self.head = head
        self.specs = specs
        self.answer_bytes = infer_response_bytes(head, specs)
        places: dict[int, slice] = {}
        at = 0
        for number, dtype, shape in codec.tensors(job):
            header = tensor_header(number, dtype, shape)
            size = codec.element_bytes(dtype, shape)
            places[number] = slice(at + len(header), at + len(header) + size)
            at += len(header) + size
        sources: list[slice | str] = [
            name if name in SUMMARY else places[NUMBERS.get(name, codec.LOSS)] for name, _, _ in specs
        ]
        # Bytes, each with what comes behind it: a place in the RPC's response, or a number of its summary.
        self._parts = list(zip(response_constants(head, specs), sources, strict=True))
        self._tensors_end = at

    def response(self, answer: bytes) -> tuple[bytes, Any]:
        """The response, of that RPC's; and its Timing."""
        rest = EntropyResponse.FromString(answer[self._tensors_end :])  # every response's summary and timing
        summary = rest.summary
        found = []
        for constant, source in self._parts:
            found.append(constant)
            if isinstance(source, slice):
                found.append(answer[source])
            else:
                found.append(pack("<q" if source == "count" else "<d", getattr(summary, source)))
        return b"".join(found), rest.timing


class InferTemplate:
    """A request without an id that came before, and its response."""

    __slots__ = ("_between", "_head", "_input", "_own", "_tail", "_target", "model", "response")

    def __init__(
        self,
        body: bytes,
        places: dict[str, slice],
        own: tuple[bytes, bytes, bytes],
        model: Model,
        response: ResponseTemplate,
    ) -> None:
        """places: where the numbers of `input` and `target` lie in `body`. own: what the loss's own request has before,
        between and behind them."""
        self._input = places["input"]
        self._target = places.get("target", slice(len(body), len(body)))
        first, last = sorted((self._input, self._target), key=lambda place: place.start)
        self._head, self._between, self._tail = (
            (slice(0, first.start), body[: first.start]),
            (slice(first.stop, last.start), body[first.stop : last.start]),
            (slice(last.stop, None), body[last.stop :]),
        )
        self._own = own
        self.model = model
        self.response = response

    def is_like(self, body: bytes) -> bool:
        """body: of the same length."""
        return all(body[place] == constant for place, constant in (self._head, self._between, self._tail))

    def own_request(self, body: bytes) -> bytes:
        """The request of the model's RPC."""
        before, between, behind = self._own
        return b"".join((before, body[self._input], between, body[self._target], behind))


class InferTemplates:
    """The requests that are known, by length. Forgets everything when it is full."""

    def __init__(self) -> None:
        self._known: dict[int, list[InferTemplate]] = {}
        self._count = 0

    def find(self, body: bytes) -> InferTemplate | None:
        for template in self._known.get(len(body), ()):
            if template.is_like(body):
                return template
        return None

    def keep(
        self,
        body: bytes,
        request: SplitRequest,
        own: bytes,
        fields: Fields,
        model: Model,
        response: ResponseTemplate,
    ) -> None:
        """Remembers a request that was accepted, where its numbers are found in it. own: that of its loss."""
        places = _places(body, request)
        parts = None if places is None else _parts(own, fields)
        if places is None or parts is None:
            return
        if len(body) - sum(place.stop - place.start for place in places.values()) > KEY_BYTES:
            return
        if self._count >= CAPACITY:
            self._known.clear()
            self._count = 0
        alike = self._known.setdefault(len(body), [])
        if len(alike) >= ALIKE:
            self._count -= len(alike)
            alike.clear()
        alike.append(InferTemplate(body, places, parts, model, response))
        self._count += 1


def _places(body: bytes, request: SplitRequest) -> dict[str, slice] | None:
    """Where the raw contents of input and target lie: at the body's end, as every writer puts them there."""
    tails = [tag(RAW) + varint(len(raw)) for raw in request.raw]
    at = len(body) - sum(len(tail) + len(raw) for tail, raw in zip(tails, request.raw, strict=True))
    try:
        if ModelInferRequest.FromString(body[: max(0, at)]).raw_input_contents:
            return None
    except DecodeError:  # they lie elsewhere
        return None
    places: dict[str, slice] = {}
    for sent, tail, raw in zip(request.message.inputs, tails, request.raw, strict=False):
        if not body.startswith(tail, at):
            return None
        at += len(tail)
        if sent.name in ("input", "target"):
            places[sent.name] = slice(at, at + len(raw))
        at += len(raw)
    return places if "input" in places and at == len(body) else None


def _parts(own: bytes, fields: Fields) -> tuple[bytes, bytes, bytes] | None:
    """The loss's own request, as the generated class writes it, without the numbers of input and target."""
    x: WireTensor = fields["input"]
    y: WireTensor | None = fields.get("target")
    head = tensor_header(INPUT, x.dtype, x.shape)
    end = len(head) + len(x.data)
    between = b"" if y is None else tensor_header(TARGET, y.dtype, y.shape)
    tail_at = end + len(between) + (0 if y is None else len(y.data))
    if not (own.startswith(head) and own.startswith(between, end)):
        return None
    return head, between, own[tail_at:]


def fits_template(job: Job, specs: Sequence[OutputSpec]) -> bool:
    """Whether all outputs are in the beginning of the RPC's response, or in its summary."""
    return (
        not job.outputs
        and not job.weight_gradient
        and all(name not in GRADIENTS or name in NUMBERS for name, _, _ in specs)
    )

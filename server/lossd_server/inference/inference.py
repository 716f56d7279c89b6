"""One inference: from the bytes of its request to the job of its loss, and from the answer to its response."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf

from lossd_server.call.contract import Body, Message
from lossd_server.errors import invalid
from lossd_server.fast_path.burst import address_of_bytes
from lossd_server.fast_path.recall import Recalled
from lossd_server.inference import infer_response
from lossd_server.inference.contents import split_request
from lossd_server.inference.infer_request import read_outputs_asked, tensor_fields
from lossd_server.inference.infer_response import OutputSpec
from lossd_server.inference.models import Model, model_of
from lossd_server.inference.parameters import read_parameters
from lossd_server.inference.statistics import InferenceStatistics
from lossd_server.inference.templates import InferTemplate, InferTemplates, ResponseTemplate, fits_template
from lossd_server.intake.intake import Intake
from lossd_server.jobs.job import Answer
from lossd_server.rpc.evaluations import CheckedRequest
from lossd_server.wire import codec

MOST_ID_BYTES = 1024


class Inference:
    """Its request is read once. model_name, id: as sent, once they are known; what fails before has none.

    streamed: whether its response is a message of ModelStreamInfer.
    """

    __slots__ = (
        "_arrived_ns",
        "_batch_requests",
        "_compute_ns",
        "_intake",
        "_model",
        "_queue_ns",
        "_statistics",
        "_streamed",
        "_templates",
        "id",
        "model_name",
    )

    def __init__(
        self,
        intake: Intake,
        templates: InferTemplates,
        statistics: InferenceStatistics,
        streamed: bool = False,
    ) -> None:
        self._intake = intake
        self._templates = templates
        self._statistics = statistics
        self._streamed = streamed
        self._arrived_ns = time.monotonic_ns()
        self._model: Model | None = None
        self._queue_ns = self._compute_ns = 0
        self._batch_requests = 1
        self.model_name = self.id = ""

    @property
    def loss(self) -> str:
        """The RPC of its model, once that is known; else ""."""
        return "" if self._model is None else self._model.rpc

    def read(self, body: Body, max_response_bytes: int | None) -> CheckedRequest | Message:
        """The request as what is computed, by the loss's own checks; its response where it is known at once.

        Raises ServerError.
        """
        if isinstance(body, bytes) and len(body) < codec.LARGE_BYTES:
            template = self._templates.find(body)
            if template is not None and (found := self._again(template, body, max_response_bytes)) is not None:
                return found
        request = split_request(body)
        message = request.message
        if len(message.id) > MOST_ID_BYTES:
            raise invalid(
                f"id has {len(message.id)} characters, at most {MOST_ID_BYTES} are taken",
                "OPTION_OUT_OF_RANGE",
                "id",
                value=len(message.id),
                bound=MOST_ID_BYTES,
            )
        self.id = message.id
        self._model = model = model_of(message.model_name, message.model_version, "model_name")
        self.model_name = model.name
        fields, copied = tensor_fields(request, model)
        said = read_parameters(message.parameters, model, fields)
        names = read_outputs_asked(message.outputs, model, fields)
        known, own = None, b""
        if len(body) < codec.LARGE_BYTES:
            own = codec.encode_request(model.rpc, fields)
            known = self._intake.recalled(model.rpc, own)
            job = self._intake.check_body(model.rpc, own, known)
        else:
            job = self._intake.check_fields(model.rpc, fields)
        if copied:
            job = replace(job, copied_bytes=job.copied_bytes + copied)
        head = infer_response.response_head(model, self.id, said.final)
        specs = infer_response.output_specs(job, model, names)
        if known is not None and fits_template(job, specs):
            response = ResponseTemplate(job, head, specs)
            # One with an id will hardly come again.
            if isinstance(body, bytes) and not self.id and said.timeout_s == inf:
                self._templates.keep(body, request, own, fields, model, response)
            if (answer := self._at_once(own, known, response, max_response_bytes)) is not None:
                return answer
        size = infer_response.infer_response_bytes(head, specs)
        return CheckedRequest(job, size, partial(self._form, head, specs), said.timeout_s)

    def _again(
        self, template: InferTemplate, body: bytes, max_response_bytes: int | None
    ) -> CheckedRequest | Message | None:
        """The same of a request like one before; None where that is forgotten."""
        model, response = template.model, template.response
        own = template.own_request(body)
        known = self._intake.recalled(model.rpc, own)
        if known is None:
            return None
        self._model, self.model_name = model, model.name
        if (answer := self._at_once(own, known, response, max_response_bytes)) is not None:
            return answer
        job = self._intake.check_body(model.rpc, own, known)
        return CheckedRequest(job, response.answer_bytes, partial(self._form, response.head, response.specs))

    def _at_once(
        self, own: bytes, known: Recalled, response: ResponseTemplate, max_response_bytes: int | None
    ) -> Message | None:
        """The response to a request that has a plan. Raises TooLarge."""
        intake = self._intake
        intake.require_fits(response.answer_bytes, max_response_bytes)
        plan = intake.plan(known, None)
        if plan is None:
            return None
        (answer,) = intake.answer_at_once([(plan, address_of_bytes(own))])
        if answer is None:
            return None
        body, took = response.response(answer)
        self._queue_ns, self._compute_ns, self._batch_requests = took.queue_ns, took.compute_ns, took.batch_requests
        return codec.in_parts(infer_response.stream_pieces([body])) if self._streamed else body

    def _form(
        self,
        head: bytes,
        specs: Sequence[OutputSpec],
        answer: Answer,
        queue_ns: int,
        compute_ns: int,
        requests: int,
        rows: int,
    ) -> Message:
        """The response, in whatever thread it was computed."""
        assert self._model is not None
        self._queue_ns, self._compute_ns, self._batch_requests = queue_ns, compute_ns, requests
        response = infer_response.response_pieces(head, specs, self._model, answer)
        return codec.in_parts(infer_response.stream_pieces(response) if self._streamed else response)

    def ended(self, succeeded: bool) -> None:
        """Counts it, where its model is known."""
        if self._model is None:
            return
        took_ns = time.monotonic_ns() - self._arrived_ns
        if succeeded:
            self._statistics.succeeded(
                self._model.name, took_ns, self._queue_ns, self._compute_ns, self._batch_requests
            )
        else:
            self._statistics.failed(self._model.name, took_ns)

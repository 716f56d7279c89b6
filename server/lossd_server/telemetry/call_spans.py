"""Call spans: OpenTelemetry's, of a call that has ended and of its work, made from its record.

A server span for each call, with those of queue, compute and encode below it, at the times that they took. Made once
all is over, so that nothing of it stands between a call and its answer.
"""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.trace import (
    ProxyTracerProvider,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lossd.version import __version__
from lossd_server.call.contract import Metadata
from lossd_server.call.record import CallRecord, WorkTimes
from lossd_server.telemetry.code_names import code_name

# Those of a server span that tell of a fault of the server's (OpenTelemetry's conventions for gRPC): UNKNOWN,
# DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. The others are its caller's.
FAULTS = frozenset({2, 4, 12, 13, 14, 15})
PARENT, STATE = "traceparent", "tracestate"
# Of what a client names: OpenTelemetry takes no longer ones, and warns of them.
MOST_CHARACTERS = 512
# The name of a path that is none of the server's: clients choose those.
OTHER = "_OTHER"


class CallSpans:
    """`recorded_routes.CallSink`. provider: None for the one of this process, once it has one."""

    every = True

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._own = provider is not None
        self._tracer: Tracer = (provider or get_tracer_provider()).get_tracer("lossd", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def is_wanted(self) -> bool:
        return self._own or not isinstance(get_tracer_provider(), ProxyTracerProvider)

    def __call__(self, record: CallRecord) -> None:
        epoch_ns = time.time_ns() - time.monotonic_ns()
        known = record.known
        service, _, method = record.method.removeprefix("/").partition("/")
        span = self._tracer.start_span(
            f"{service}/{method}" if known else OTHER,
            self._parent(record.metadata),
            SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method} if known else {"rpc.system": "grpc"},
            start_time=epoch_ns + record.began_ns,
        )
        if span.is_recording():
            _describe(span, record)
            self._add_work(span, record, epoch_ns)
        span.end(epoch_ns + record.ended_ns)

    def _parent(self, metadata: Metadata) -> Context:
        """The client's span, where it names one."""
        carrier: dict[str, list[str]] = {}
        for key, value in metadata:
            if key in (PARENT, STATE) and isinstance(value, str):
                carrier.setdefault(key, []).append(value)
        parents = carrier.get(PARENT, ())
        if len(parents) != 1 or len(parents[0]) > MOST_CHARACTERS:
            return Context()
        if sum(map(len, carrier.get(STATE, ()))) + len(carrier.get(STATE, ())) > MOST_CHARACTERS:
            del carrier[STATE]
        return self._propagator.extract(carrier, Context())

    def _add_work(self, call: Span, record: CallRecord, epoch_ns: int) -> None:
        context = set_span_in_context(call, Context())

        def add(name: str, begin_ns: int, end_ns: int, **attributes: str | int) -> None:
            span = self._tracer.start_span(name, context, start_time=epoch_ns + begin_ns)
            for key, value in attributes.items():
                if value:
                    span.set_attribute(f"lossd.{key}", value)
            span.end(epoch_ns + end_ns)

        for work in record.work:
            if not work.at_once:
                add("queue", work.queued_ns, work.started_ns)
            add("compute", work.started_ns, work.computed_ns, **_of_work(work))
            if not work.at_once:
                add("encode", work.encoding_ns, work.written_ns)


def _of_work(work: WorkTimes) -> dict[str, str | int]:
    return {
        "loss": work.loss,
        "rows": work.rows,
        "batch_requests": work.batch_requests,
        "batch_rows": work.batch_rows,
    }


def _describe(span: Span, record: CallRecord) -> None:
    losses = {work.loss for work in record.work if work.loss}
    attributes: dict[str, str | int] = {
        "lossd.request_id": record.request_id,
        "lossd.identity": record.identity,
        "lossd.loss": ",".join(sorted(losses)),
        "lossd.rows": record.rows,
        "lossd.request_bytes": record.request_bytes,
        "lossd.response_bytes": record.response_bytes,
        "lossd.reason": record.reason,
        "lossd.failed_evaluations": record.failed,
        "lossd.jobs": record.work_count,
    }
    span.set_attribute("rpc.grpc.status_code", record.code)
    for key, value in attributes.items():
        if value:
            span.set_attribute(key, value)
    if record.code:
        span.set_attribute("error.type", code_name(record.code))
    if record.code in FAULTS:
        span.set_status(Status(StatusCode.ERROR, record.reason))

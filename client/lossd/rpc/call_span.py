"""Call span: OpenTelemetry's client span of one RPC, and the metadata by which the server's is below it.

Imported where the application has imported OpenTelemetry, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.trace import (
    ProxyTracerProvider,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lossd.errors import Error
from lossd.rpc.protocol import Metadata
from lossd.version import __version__

_OK, _CANCELLED, _UNKNOWN = 0, 1, 2
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_PROPAGATOR = TraceContextTextMapPropagator()
# Of the provider that was there last: an application has one.
_tracers: list[tuple[TracerProvider, Tracer]] = []


class CallSpan:
    """A context manager round an RPC. metadata: what the server is told. is_sampled: whether anybody records it.

    code: gRPC's number of what the RPC ended with, where that is known. span: None where the application has a span
    but no provider of its own: then its context is passed on.
    """

    __slots__ = ("_span", "code", "is_sampled", "metadata")

    def __init__(self, metadata: Metadata, is_sampled: bool, span: Span | None) -> None:
        self.metadata = metadata
        self.is_sampled = is_sampled
        self.code = _OK
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not self.code:
            self.code = _CANCELLED if isinstance(error, asyncio.CancelledError) else _UNKNOWN
        self._end(error)

    def follow(self, stream: Any, is_settled: Callable[[], bool]) -> None:
        """Ends with a Stream call of grpc or grpc.aio.

        is_settled: whether all that was sent on it is answered: then it is over, however it ends.
        """
        stream.add_done_callback(lambda ended: self._stream_ended(_code_of(ended), is_settled()))

    def _stream_ended(self, code: int, settled: bool) -> None:
        self.code = _OK if code == _CANCELLED and settled else code
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        span = self._span
        if span is None:
            return
        span.set_attribute("rpc.grpc.status_code", self.code)
        if self.code:
            span.set_attribute("error.type", _NAMES.get(self.code, str(self.code)))
            if self.code != _CANCELLED:
                span.set_status(Status(StatusCode.ERROR, error.reason if isinstance(error, Error) else None))
        if isinstance(error, Error) and error.request_id:
            span.set_attribute("lossd.request_id", error.request_id)
        span.end()


def begin(path: str, address: str, request_bytes: int) -> CallSpan | None:
    """As `tracing.begin_span`."""
    provider = get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):
        context = get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return CallSpan(_injected(get_current_span()), context.trace_flags.sampled, None)
    service, _, method = path.removeprefix("/").partition("/")
    attributes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "server.address": address,
    }
    if request_bytes:
        attributes["lossd.request_bytes"] = request_bytes
    span = _tracer_of(provider).start_span(path.removeprefix("/"), kind=SpanKind.CLIENT, attributes=attributes)
    return CallSpan(_injected(span), span.get_span_context().trace_flags.sampled, span)


def _tracer_of(provider: TracerProvider) -> Tracer:
    for known, tracer in _tracers:
        if known is provider:
            return tracer
    tracer = provider.get_tracer("lossd", __version__)
    _tracers[:] = [(provider, tracer)]
    return tracer


def _injected(span: Span) -> Metadata:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return tuple(carrier.items())


def _code_of(ended: Any) -> int:
    """Of a call that is over: grpc.aio's says so to whoever awaits it, at once."""
    code = ended.code()
    if asyncio.iscoroutine(code):
        try:
            code.send(None)
        except StopIteration as said:
            code = said.value
        else:
            code.close()
            return _UNKNOWN
    number: int = code.value[0]
    return number

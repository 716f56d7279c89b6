"""Spans of the client's calls: one for each RPC, below the application's and above the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    use_span,
)

import lossd
from lossd_server.errors import Overloaded
from tests.client.stand_in import StandIn
from tests.spans import Spans, id_of, process_provider
from tests.waiting import until

ENTROPY = "lossd.v1.LossService/Entropy"
CROSS_ENTROPY = "lossd.v1.LossService/CrossEntropy"
STREAM = "lossd.v1.LossService/Stream"
ROWS = np.zeros((4, 8), np.float32)
LABELS = np.zeros(4, np.int64)
LARGE = np.zeros((1 << 12, 1 << 10), np.float32)  # 16 MiB: blocks of a stream


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Of both sides: the server is in this process."""
    with process_provider(monkeypatch) as found:
        yield found


@pytest.fixture
def client(spans: Spans) -> Iterator[lossd.Client]:
    with lossd.Client("embedded") as found:
        found.info()
        yield found


def ended(spans: Spans, name: str, kind: SpanKind, count: int = 1) -> list[ReadableSpan]:
    """So many, once they are there."""
    until(lambda: len(spans.named(name, kind)) >= count, f"{count} spans of {name}, {kind}")
    return spans.named(name, kind)


def check_one_trace(spans: Spans, outer: trace.Span, name: str, count: int = 1) -> None:
    """The application's span, the client's, the server's, each below the one before."""
    clients, servers = ended(spans, name, SpanKind.CLIENT, count), ended(spans, name, SpanKind.SERVER, count)

    assert [one.parent and one.parent.span_id for one in clients] == [outer.get_span_context().span_id] * count
    assert {one.parent and one.parent.span_id for one in servers} == {id_of(one) for one in clients}
    assert {one.context and one.context.trace_id for one in (*clients, *servers)} == {outer.get_span_context().trace_id}


def test_both_sides_are_one_trace(client: lossd.Client, spans: Spans) -> None:
    """A call of an embedded server, again and again: the short ways have their spans, too."""
    with spans.tracer.start_as_current_span("step") as outer:
        for _ in range(4):
            client.cross_entropy(ROWS, LABELS)

    check_one_trace(spans, outer, CROSS_ENTROPY, 4)
    one = spans.named(CROSS_ENTROPY, SpanKind.CLIENT)[0]
    assert dict(one.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "lossd.v1.LossService",
        "rpc.method": "CrossEntropy",
        "rpc.grpc.status_code": 0,
        "server.address": dict(one.attributes or {})["server.address"],
        "lossd.request_bytes": dict(one.attributes or {})["lossd.request_bytes"],
    }


@pytest.mark.parametrize("transport", ["stream", "unary", "shared_memory"])
def test_every_transport_passes_it_on(transport: lossd.Transport, client: lossd.Client, spans: Spans) -> None:
    """Blocks of a stream, one message, memory that both see."""
    rows = LARGE[:512] if transport == "unary" else LARGE
    with spans.tracer.start_as_current_span("step") as outer:
        client.entropy(rows, transport=transport)

    check_one_trace(spans, outer, STREAM if transport == "stream" else ENTROPY)
    (server,) = spans.named(STREAM if transport == "stream" else ENTROPY, SpanKind.SERVER)
    assert dict(server.attributes or {})["lossd.rows"] == len(rows)
    assert dict(server.attributes or {})["rpc.grpc.status_code"] == 0


def test_many_calls_on_a_stream(client: lossd.Client, spans: Spans) -> None:
    """`map` has one span, of its stream, which it leaves by a reset: that is no error on either side."""
    with spans.tracer.start_as_current_span("step") as outer:
        assert len(list(client.map("entropy", [ROWS] * 10))) == 10

    check_one_trace(spans, outer, STREAM)
    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        (span,) = spans.named(STREAM, kind)
        assert span.status.status_code is StatusCode.UNSET
        assert dict(span.attributes or {})["rpc.grpc.status_code"] == 0


@pytest.mark.usefixtures("client")
def test_concurrent_calls_each_have_their_own(spans: Spans) -> None:
    """Calls of the asynchronous client that are traced share no stream, whose metadata would name one of them."""

    async def run() -> None:
        async with lossd.aio.Client("embedded") as client:
            await client.info()

            async def call(number: int) -> int:
                with spans.tracer.start_as_current_span("step", attributes={"number": number}) as outer:
                    await asyncio.gather(*(client.entropy(ROWS) for _ in range(8)))
                    return outer.get_span_context().span_id

            outers = await asyncio.gather(*(call(number) for number in range(4)))
            clients = [span for span in spans.all if span.name == ENTROPY and span.kind is SpanKind.CLIENT]
            servers = await spans.served(ENTROPY, 32)

            parents = [one.parent.span_id for one in clients if one.parent is not None]
            assert sorted(parents) == sorted(outers * 8)
            assert {one.parent and one.parent.span_id for one in servers} == {id_of(one) for one in clients}
            assert spans.named(STREAM, SpanKind.CLIENT) == []

    asyncio.run(run())


def test_the_asynchronous_client_streams(spans: Spans) -> None:
    """As the blocking one does."""

    async def run() -> None:
        async with lossd.aio.Client("embedded") as client:
            with spans.tracer.start_as_current_span("step") as outer:
                await client.entropy(LARGE, transport="stream")
                assert len([one async for one in client.map("entropy", [ROWS] * 3)]) == 3
            check_one_trace(spans, outer, STREAM, 2)
            codes = [dict(one.attributes or {})["rpc.grpc.status_code"] for one in spans.all if one.name == STREAM]
            assert codes == [0] * 4

    asyncio.run(run())


def test_a_refused_call_is_an_error(client: lossd.Client, spans: Spans) -> None:
    """Its span has the code, the reason and the request id that the exception has."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        client.cross_entropy(ROWS, LABELS + 9)
    (span,) = ended(spans, CROSS_ENTROPY, SpanKind.CLIENT)

    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "CLASS_OUT_OF_RANGE")
    attributes = dict(span.attributes or {})
    assert (attributes["rpc.grpc.status_code"], attributes["error.type"]) == (3, "INVALID_ARGUMENT")
    assert attributes["lossd.request_id"] == caught.value.request_id
    (served,) = ended(spans, CROSS_ENTROPY, SpanKind.SERVER)
    assert dict(served.attributes or {})["lossd.request_id"] == caught.value.request_id


def test_an_outer_context_is_passed_on_without_a_provider() -> None:
    """The application has a span of somebody else's and no provider: the server is told of that one; of none else."""
    outer = SpanContext(0x1234, 0x5678, True, TraceFlags(TraceFlags.SAMPLED), TraceState([("vendor", "a1")]))
    with StandIn() as server, lossd.Client(server.address) as client:
        client.entropy(ROWS)
        with use_span(NonRecordingSpan(outer)):
            client.entropy(ROWS)

    plain, traced = server.metadata
    assert "traceparent" not in plain
    assert traced["traceparent"] == f"00-{0x1234:032x}-{0x5678:016x}-01"
    assert traced["tracestate"] == "vendor=a1"


def test_each_attempt_has_a_span(spans: Spans) -> None:
    """A call that is repeated shows what each RPC came to."""
    with StandIn() as server, lossd.Client(server.address) as client:
        server.failures.append(Overloaded("full", reason="OVERLOADED", retry_after_s=0.001))
        client.entropy(ROWS)
    refused, answered = spans.named(ENTROPY, SpanKind.CLIENT)

    assert dict(refused.attributes or {})["error.type"] == "RESOURCE_EXHAUSTED"
    assert answered.status.status_code is StatusCode.UNSET


def test_a_cancelled_call_is_no_error(spans: Spans) -> None:
    """Its caller has given it up: the span has the code, and no error."""

    async def run() -> None:
        with StandIn() as server:
            server.held = True
            async with lossd.aio.Client(server.address) as client:
                call = asyncio.ensure_future(client.entropy(ROWS))
                await asyncio.to_thread(server.entered.wait)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            (span,) = spans.named(ENTROPY, SpanKind.CLIENT)

            assert dict(span.attributes or {})["rpc.grpc.status_code"] == 1
            assert span.status.status_code is StatusCode.UNSET

    asyncio.run(run())

"""Spans of calls: a server span for each, those of its work below it, all below the client's."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from lossd.command_line.token_line import add_token
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.telemetry import call_spans
from lossd_server.telemetry.otlp import check_traces, otlp_provider
from tests.client.programs import run as run_program
from tests.server.edge import POISON, EdgeBackend
from tests.server.memory_front import MemoryCall, handled
from tests.server.messages import bce, cross_entropy
from tests.server.running import finished, raw, refused, serving, stub, until_requests
from tests.server.streaming.conversation import converse, messages, opened
from tests.spans import Spans

CROSS_ENTROPY = "lossd.v1.LossService/CrossEntropy"
STREAM = "lossd.v1.LossService/Stream"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=a1"))
BOTH = ("input", "target")
PAGE = Path(__file__).parents[3] / "docs" / "tracing.md"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_a_call_has_a_span_below_its_clients(numba: Backend, spans: Spans) -> None:
    """Its parent, trace and state are those of the metadata; its attributes say what it was."""

    async def run() -> None:
        request = cross_entropy()
        async with serving(numba, traces="process") as (_, channel):
            answer = await stub(channel).CrossEntropy(request, metadata=(*TRACED, ("x-request-id", "step-1")))
            (span,) = await spans.served(CROSS_ENTROPY)

            assert span.context is not None
            assert span.parent is not None
            assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
            assert span.parent.is_remote
            assert span.context.trace_state.get("vendor") == "a1"
            assert span.status.status_code is StatusCode.UNSET
            assert attributes(span) == {
                "rpc.system": "grpc",
                "rpc.service": "lossd.v1.LossService",
                "rpc.method": "CrossEntropy",
                "rpc.grpc.status_code": 0,
                "lossd.request_id": "step-1",
                "lossd.loss": "CrossEntropy",
                "lossd.rows": 4,
                "lossd.request_bytes": request.ByteSize(),
                "lossd.response_bytes": answer.ByteSize(),
                "lossd.jobs": 1,
            }

    asyncio.run(run())


def test_its_work_is_below_it(spans: Spans) -> None:
    """It waits, is computed and is written, one after the other, while the call lasts."""

    async def run() -> None:
        async with serving(EdgeBackend(), traces="process") as (_, channel):
            await stub(channel).BCE(bce(16))
            (call,) = await spans.served("lossd.v1.LossService/BCE")
            queue, compute, encode = spans.below(call)

            assert [span.name for span in (queue, compute, encode)] == ["queue", "compute", "encode"]
            moments = [times(call)[0], *times(queue), *times(compute), *times(encode), times(call)[1]]
            assert moments == sorted(moments)
            assert times(queue)[1] == times(compute)[0]
            assert attributes(compute) == {
                "lossd.loss": "BCE",
                "lossd.rows": 16,
                "lossd.batch_requests": 1,
                "lossd.batch_rows": 16,
            }

    asyncio.run(run())


def test_calls_of_a_batch(spans: Spans) -> None:
    """Each has its own spans; they were computed together, and waited for what was computed before them."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, traces="process") as (_, channel):
            backend.gate.clear()
            first = finished(stub(channel).CrossEntropy(cross_entropy(2)))
            await asyncio.to_thread(backend.until_entered)
            others = [finished(stub(channel).CrossEntropy(cross_entropy(rows))) for rows in (3, 4, 5)]
            await until_requests(channel, 4)
            backend.gate.set()
            await asyncio.gather(first, *others)
            calls = await spans.served(CROSS_ENTROPY, 4)
            computed = {attributes(call)["lossd.rows"]: spans.below(call)[1] for call in calls}

            assert [attributes(computed[rows])["lossd.batch_requests"] for rows in (2, 3, 4, 5)] == [1, 3, 3, 3]
            assert {attributes(computed[rows])["lossd.batch_rows"] for rows in (3, 4, 5)} == {12}
            assert {times(computed[rows])[0] >= times(computed[2])[1] for rows in (3, 4, 5)} == {True}

    asyncio.run(run())


def test_a_call_that_is_answered_at_once(numba: Backend, spans: Spans) -> None:
    """It is found, computed and written in one step, which is its computing; it has a parent as any call has."""

    async def run() -> None:
        body = cross_entropy(5, 7).SerializeToString()
        async with serving(numba, traces="process") as (_, channel):
            for _ in range(4):
                await raw(channel, "CrossEntropy")(body, metadata=TRACED)
            last = (await spans.served(CROSS_ENTROPY, 4))[-1]
            (compute,) = spans.below(last)

            assert last.parent is not None
            assert f"{last.parent.span_id:016x}" == PARENT
            assert compute.name == "compute"
            assert attributes(last)["lossd.request_bytes"] == len(body)
            assert (attributes(last)["lossd.loss"], attributes(last)["lossd.rows"]) == ("CrossEntropy", 5)

    asyncio.run(run())


def test_a_streamed_evaluation(spans: Spans) -> None:
    """The stream has one span, and below it each block has its own queue, compute and encode."""

    async def run() -> None:
        sent = list(messages(cross_entropy(6), 1, BOTH, [0, 2, 6]))
        async with serving(EdgeBackend(), traces="process") as (_, channel):
            await converse(channel, sent, metadata=TRACED)
            (stream,) = await spans.served(STREAM)
            below = spans.below(stream)

            assert sorted(span.name for span in below) == ["compute", "compute", "encode", "encode", "queue", "queue"]
            rows = [attributes(span)["lossd.rows"] for span in below if span.name == "compute"]
            assert rows == [2, 4]
            assert attributes(stream)["lossd.rows"] == 6
            assert attributes(stream)["lossd.request_bytes"] == sum(one.ByteSize() for one in sent)
            assert stream.parent is not None
            assert f"{stream.parent.span_id:016x}" == PARENT

    asyncio.run(run())


def test_a_stream_of_any_length_has_a_bounded_number(numba: Backend, spans: Spans) -> None:
    """Work beyond the first 64 jobs is counted."""

    async def run() -> None:
        sent = [pb.StreamRequest(open=opened(cross_entropy(rows), rows)) for rows in range(1, 100)]
        async with serving(numba, traces="process") as (_, channel):
            await converse(channel, sent)
            (stream,) = await spans.served(STREAM)

            assert attributes(stream)["lossd.jobs"] == 99
            assert attributes(stream)["lossd.rows"] == sum(range(1, 100))
            assert len([span for span in spans.below(stream) if span.name == "compute"]) == 64

    asyncio.run(run())


def test_errors(spans: Spans) -> None:
    """A fault of the server's is the span's; a wrong request is its caller's, and only its code says so."""

    async def run() -> None:
        async with serving(EdgeBackend(), traces="process") as (_, channel):
            await refused(stub(channel).CrossEntropy(cross_entropy(ignore_index=POISON)))
            (ours,) = await spans.served(CROSS_ENTROPY)
            await refused(raw(channel, "CrossEntropy")(b"\x0a\xff"))
            (_, theirs) = await spans.served(CROSS_ENTROPY, 2)

            assert (ours.status.status_code, ours.status.description) == (StatusCode.ERROR, "INTERNAL")
            assert attributes(ours)["rpc.grpc.status_code"] == 13
            assert theirs.status.status_code is StatusCode.UNSET
            assert attributes(theirs)["rpc.grpc.status_code"] == 3
            assert attributes(theirs)["error.type"] == "INVALID_ARGUMENT"
            assert attributes(theirs)["lossd.reason"] == "MALFORMED_MESSAGE"

    asyncio.run(run())


@pytest.mark.parametrize(
    "named",
    [
        (("traceparent", "00-0-0-01"),),
        (("traceparent", "x" * 600),),
        (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-01")),
        (("tracestate", "vendor=a1"),),
    ],
    ids=["malformed", "long", "twice", "a state alone"],
)
def test_what_names_no_parent(named: tuple[tuple[str, str], ...], spans: Spans) -> None:
    """A context that cannot be one is none: the call begins a trace."""

    async def run() -> None:
        async with serving(EdgeBackend(), traces="process") as (server, _):
            await handled(server.routes, MemoryCall(f"/{CROSS_ENTROPY}", [cross_entropy().SerializeToString()], named))
            (span,) = await spans.served(CROSS_ENTROPY)

            assert span.parent is None

    asyncio.run(run())


def test_what_its_client_does_not_record(spans: Spans) -> None:
    """A parent that is not sampled has no spans below it."""

    async def run() -> None:
        async with serving(EdgeBackend(), traces="process") as (_, channel):
            unsampled = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
            await stub(channel).CrossEntropy(cross_entropy(), metadata=unsampled)
            await stub(channel).CrossEntropy(cross_entropy(), metadata=TRACED)
            found = await spans.served(CROSS_ENTROPY)

            assert len(found) == 1

    asyncio.run(run())


def test_a_path_that_clients_make_up_is_no_name(spans: Spans, tmp_path: Path) -> None:
    """Names of spans are few, whoever calls and whatever the refusal."""

    async def run() -> None:
        add_token("trainer", tmp_path / "tokens")
        for tokens in ("", str(tmp_path / "tokens")):
            async with serving(EdgeBackend(), traces="process", tokens=tokens) as (_, channel):
                call: Any = channel.unary_unary("/made/up")
                await refused(call(b""))
        unknown, stranger = await spans.served("_OTHER", 2)

        assert "rpc.method" not in attributes(unknown)
        assert unknown.status.status_code is StatusCode.ERROR
        assert attributes(stranger)["lossd.reason"] == "NO_CREDENTIALS"

    asyncio.run(run())


def test_the_page_has_every_attribute() -> None:
    """Each name that a span's attribute has in the source stands in docs/tracing.md."""
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r'"((?:lossd|rpc|error)\.[\w.]+)"', Path(call_spans.__file__).read_text(encoding="utf-8")))

    assert len(named) > 10
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_nothing_is_imported_where_it_is_off() -> None:
    """A server without traces, and a client, leave OpenTelemetry alone."""
    program = """
        import sys
        import lossd
        with lossd.Client("embedded") as client:
            client.entropy([[1.0, 2.0]])
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """

    assert run_program(program).stdout.strip() == "[]"


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install; so is a protocol that is none."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")
    with pytest.raises(SettingsError, match="'smoke' must be one of grpc, http/protobuf"):
        check_traces(Settings(traces="otlp"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        check_traces(Settings(traces="otlp"))
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"traces = otlp needs OpenTelemetry: pip install .*\[otel\]"):
        check_traces(Settings(traces="otlp"))

    check_traces(Settings())
    assert otlp_provider(Settings(traces="process")) is None

"""OTLP: spans reach a collector, from every process of a server, at its end at the latest."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

import lossd
from lossd.version import __version__
from tests.server.server_process import process
from tests.waiting import WAIT_S

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Its endpoint, and what came there."""
    came: list[ExportTraceServiceRequest] = []

    def export(request: bytes, _: grpc.ServicerContext) -> bytes:
        came.append(ExportTraceServiceRequest.FromString(request))
        return ExportTraceServiceResponse().SerializeToString()

    class Every(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(export) if details.method == EXPORT else None

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Every(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", came
    finally:
        server.stop(None).wait()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that nobody asks for are sent in an hour."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_left_is_sent_at_the_end(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of calls that were answered are there when the server has stopped, as whom the variables say."""
    with collector() as (endpoint, came):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=tests")
        with process("--listen", "127.0.0.1:0", "--traces", "otlp", "--workers", workers) as (server, address):
            with lossd.Client(address) as client:
                client.entropy([[1.0, 2.0]])
            assert came == []
            server.send_signal(signal.SIGTERM)
            assert server.wait(WAIT_S) == 0

    resources = [one.resource for request in came for one in request.resource_spans]
    said = [{one.key: one.value.string_value for one in resource.attributes} for resource in resources]
    names = [
        span.name
        for request in came
        for of_resource in request.resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]
    assert {one["service.name"] for one in said} == {"lossd"}
    assert {one["service.version"] for one in said} == {__version__}
    assert {one["deployment.environment"] for one in said} == {"tests"}
    assert names.count("lossd.v1.LossService/Entropy") == 1
    assert names.count("compute") == 1


@pytest.mark.usefixtures("patient")
def test_a_collector_that_is_gone_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers, and stops as it does without traces."""
    with collector() as (endpoint, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    with process("--listen", "127.0.0.1:0", "--traces", "otlp") as (server, address):
        with lossd.Client(address) as client:
            client.entropy([[1.0, 2.0]])
        server.send_signal(signal.SIGTERM)

        assert server.wait(WAIT_S) == 0

"""A call over HTTP is one of many: it has the caller's limits, its place in the trace, and its line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from lossd_server.backends import Backend
from lossd_server.config.logs import LogFormatter
from tests.server.edge import POISON, EdgeBackend
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.telemetry.conftest import spans
from tests.spans import Spans
from tests.waiting import until

__all__ = ["spans"]  # a fixture

BODY = {"input": [[1.0, 2.0]], "target": [0]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def inflight(server: HttpServer) -> int:
    requests: int = server.get("/v1/status").json["inflight"]["requests"]
    return requests


def test_a_callers_limit() -> None:
    """Whoever has as many calls as it may is told to come back: 429, with when; its others are answered."""
    backend = EdgeBackend()
    backend.gate.clear()
    with http_server(backend, max_caller_requests=2) as server, ThreadPoolExecutor(2) as pool:
        held = [pool.submit(server.post, "cross_entropy", BODY) for _ in range(2)]
        until(lambda: inflight(server) == 2, "two calls are held")
        refused = server.post("cross_entropy", BODY)
        backend.gate.set()
        statuses = [one.result().status for one in held]
        reasons = server.get("/v1/status").json["refused"]

    assert (refused.status, refused.error["code"], refused.error["reason"]) == (
        429,
        "RESOURCE_EXHAUSTED",
        "CALLER_LIMIT",
    )
    assert refused.error["retry_after_s"] > 0
    assert int(refused.headers["retry-after"]) >= 1
    assert statuses == [200, 200]
    assert reasons == {"CALLER_LIMIT": {"refused": 1, "shed": 1}}


def test_a_client_that_goes() -> None:
    """Its call is given up in the server, and gives back what it holds."""
    backend = EdgeBackend()
    backend.gate.clear()
    raw = json.dumps(BODY).encode()
    lines = ("POST /v1/losses/cross_entropy HTTP/1.1", "host: a", "content-type: application/json")
    head = "\r\n".join((*lines, f"content-length: {len(raw)}"))
    with http_server(backend) as server:
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
            client.sendall(head.encode() + b"\r\n\r\n" + raw)
            until(lambda: inflight(server) == 1, "the call is held")
        until(lambda: inflight(server) == 0, "it is given up")
        status = server.get("/v1/status").json
        backend.gate.set()

    assert status["cancelled"] == 1


def test_a_fault_of_the_servers(caplog: pytest.LogCaptureFixture) -> None:
    """500 in fixed words; its id finds the log's line."""
    with http_server(EdgeBackend()) as server:
        reply = server.post("cross_entropy", BODY | {"ignore_index": POISON})

    assert (reply.status, reply.error["code"], reply.error["reason"]) == (500, "INTERNAL", "INTERNAL")
    assert "/secret" not in reply.text
    assert reply.error["request_id"] in {getattr(one, "request_id", "") for one in caplog.records}


def test_its_place_in_a_trace(numba: Backend, spans: Spans) -> None:
    """`traceparent` is its span's parent."""
    with http_server(numba, traces="process") as server:
        reply = server.post("cross_entropy", BODY, traceparent=f"00-{TRACE}-{PARENT}-01")
        (span,) = asyncio.run(spans.served("lossd.v1.LossService/CrossEntropy"))

    assert reply.status == 200
    assert span.parent is not None
    assert span.context is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)


def test_its_line_in_the_log(numba: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """With the client's own address and id, and not the port's."""
    name = "lossd_server.telemetry.access_log"
    before = logging.getLogger(name).level
    try:
        with http_server(numba, access_log="all") as server:
            server.post("cross_entropy", BODY, x_request_id="step-12")
            until(lambda: any(one.name == name for one in caplog.records), "it is written")
    finally:
        logging.getLogger(name).setLevel(before)
    lines = [json.loads(LogFormatter(as_json=True).format(one)) for one in caplog.records if one.name == name]

    assert [(line["method"], line["request_id"]) for line in lines] == [
        ("/lossd.v1.LossService/CrossEntropy", "step-12")
    ]
    assert lines[0]["peer"].startswith("127.0.0.1:")


def test_many_at_once(numba: Backend) -> None:
    """More clients than the port has connections for one after the other: each has its own answer."""
    with http_server(numba) as server:
        answers: dict[int, float] = {}
        lock = threading.Lock()

        def call(i: int) -> None:
            loss = server.post("cross_entropy", {"input": [[float(i), 0.0]], "target": [1], "reduction": "sum"}).json
            with lock:
                answers[i] = round(loss["loss"], 6)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(call, range(100)))

    assert len(answers) == 100
    assert all(answers[i] > answers[i - 1] for i in range(1, 100))

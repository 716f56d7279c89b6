"""The HTTP port: what it answers, when, and to whom it is bounded."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from uvicorn.config import Config
from uvicorn.server import ServerState

from lossd_server.config.settings import Settings, SettingsError
from lossd_server.http.port import HEAD_BYTES, HttpPort
from lossd_server.http.protocol import MOST_CONNECTIONS, HttpConnection
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.metrics.layout import BEAT, Gauge
from lossd_server.metrics.memory import clear_gauges, http_refused_of, shared
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.processes.readiness import STUCK_NS, Phase, Readiness
from tests.server.metrics.scraping import http_port, scraped
from tests.waiting import until


def got(url: str, accept: str = "", method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers by their lower-case names, and text."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


def test_formats() -> None:
    """Prometheus' text, or OpenMetrics to who accepts that; a parser of each reads it."""
    with http_port(WorkerMetrics()) as url:
        _, plain, _ = got(f"{url}/metrics")
        _, newer, text = got(f"{url}/metrics", "application/openmetrics-text; version=1.0.0")

        assert plain["content-type"].startswith("text/plain; version=")
        assert newer["content-type"].startswith("application/openmetrics-text")
        assert scraped(url).families["grpc_server_started"] == "counter"
        assert "lossd_shed" in {family.name for family in open_metrics(text)}  # type: ignore[no-untyped-call]  # it has no types


def test_headers() -> None:
    """No answer is kept or guessed at, none names the program, and each has its date."""
    with http_port(WorkerMetrics()) as url:
        for path in ("/metrics", "/healthz", "/nothing"):
            _, headers, _ = got(url + path)

            assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
            assert "server" not in headers
            assert headers["date"].endswith("GMT")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "NONSENSE"])
def test_nothing_but_reading(method: str) -> None:
    """Another method than GET and HEAD is not allowed."""
    with http_port(WorkerMetrics()) as url:
        assert got(f"{url}/metrics", method=method)[0] == 405
        assert got(f"{url}/metrics", method="HEAD")[0] == 200


@pytest.mark.parametrize("phase", Phase)
def test_readiness(phase: Phase) -> None:
    """Ready while it serves; else 503 and why. It lives in any case."""
    with http_port(WorkerMetrics(), phase) as url:
        status, _, text = got(f"{url}/readyz")

        assert (status, text.strip()) == ((200, "ready") if phase is Phase.SERVING else (503, phase.value))
        assert got(f"{url}/healthz")[0] == 200


def test_workers_that_are_not_there_or_stand_still() -> None:
    """One that has ended is no harm while another runs; one whose loop stands still is, for it is given connections."""
    memory = shared(2)
    first, second = WorkerMetrics(0, memory), WorkerMetrics(1, memory)
    readiness = Readiness(first.all)
    readiness.phase = Phase.SERVING
    assert readiness.why_not() == ""
    clear_gauges(first.all, 0)
    assert readiness.why_not() == ""
    second.words[BEAT] -= STUCK_NS + 1
    assert readiness.why_not().startswith("worker 1 stands still")
    second.words[Gauge.PID] = 0
    assert readiness.why_not() == "no worker runs: each is started again"


def test_a_head_that_is_too_long() -> None:
    """400, and the connection ends; the next one is served."""
    with http_port(WorkerMetrics()) as url:
        where = urlsplit(url).netloc
        connection = HTTPConnection(where, timeout=30)
        connection.putrequest("GET", "/healthz")
        connection.putheader("x", "y" * (8 * HEAD_BYTES))
        connection.endheaders()

        assert connection.getresponse().status == 400
        assert got(f"{url}/healthz")[0] == 200


def test_connections_are_bounded() -> None:
    """Beyond the most, connections end at once, and are counted; as soon as one is free, the next is served."""
    metrics = WorkerMetrics()
    with http_port(metrics) as url, ExitStack() as stack:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        silent = [socket.create_connection((host, port)) for _ in range(MOST_CONNECTIONS)]
        for one in silent:
            stack.callback(one.close)
            one.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert one.recv(15) == b"HTTP/1.1 200 OK"
        with socket.create_connection((host, port)) as beyond:
            assert ended(beyond)
        assert http_refused_of(metrics.all) == {"TOO_MANY_CONNECTIONS": 1}
        silent[0].close()

        def served() -> bool:
            try:
                return got(f"{url}/healthz")[0] == 200
            except (ConnectionError, urllib.error.URLError):
                return False

        until(served, "a place is free again")


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_ports_that_cannot_be() -> None:
    """What cannot be listened on is said in a sentence; so is one that others would reach without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = WorkerMetrics()
        settings = Settings(http=f":{taken.getsockname()[1]}")
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            HttpPort(settings, metrics.all, Readiness(metrics.all)).start()
    for address in ("0.0.0.0:9464", "[::]:9464", "example.org:9464"):
        with pytest.raises(SettingsError, match="can be reached from other machines"):
            Settings(http=address)
        assert Settings(http=address, insecure=True).http_address == address
    for address in ("127.0.0.1", "x", "1.2.3.4:99999", "unix:/a"):
        with pytest.raises(SettingsError, match=r"^http = "):
            Settings(http=address)


def test_addresses() -> None:
    """A port alone is loopback's."""
    addresses = ("9464", ":9464", "127.0.0.1:1", "[::1]:0", "localhost:0")
    assert [Settings(http=one).http_address for one in addresses] == ["127.0.0.1:9464"] * 2 + list(addresses[2:])


class SilentTransport(asyncio.Transport):
    """Of a client that says nothing."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_connections_that_take_their_time() -> None:
    """One that says nothing between two looks is ended; with another request in between it is not."""

    async def run() -> list[bool]:
        async def app(scope: Any, receive: Any, send: Any) -> None: ...

        config = Config(app, log_config=None, lifespan="off")
        config.load()
        found: list[bool] = []
        for is_new in (False, True):
            refusals = HttpRefusals(WorkerMetrics().all)
            connection, transport = HttpConnection(config, ServerState(), refusals), SilentTransport()
            connection.connection_made(transport)
            connection.look()
            assert not transport.aborted
            if is_new:
                connection.cycle = object()  # type: ignore[assignment]  # of a request, of which nothing is looked at
            connection.look()
            found.append(transport.aborted)
            connection.cycle = None  # type: ignore[assignment]  # as before the first request
            connection.connection_lost(ConnectionError())
        return found

    assert asyncio.run(run()) == [True, False]

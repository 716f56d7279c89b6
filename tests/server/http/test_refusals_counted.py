"""What the HTTP port refuses by itself is counted by its reason; what it passes on is not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lossd.reasons.table import known_reasons, reason_sections
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.http.json.request import MOST_ENTRIES
from lossd_server.http.losses import MOST_BODY_BYTES
from lossd_server.http.port import HEAD_BYTES, HttpPort
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.metrics.layout import MOST_NAMES
from lossd_server.metrics.memory import http_refused_of, shared
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.processes.readiness import Phase, Readiness
from tests.credentials import TokenFile
from tests.server.http.serving_http import http_server, post
from tests.server.http.test_browsers import asked
from tests.server.http.test_walk import WRONG, status
from tests.server.identity.conftest import tokens
from tests.server.metrics.scraping import http_port, scraped

__all__ = ["tokens"]  # a fixture

SOFTMAX, LOCAL = "/v1/losses/softmax", ("localhost",)
MANY = b'{"input": [' + b",".join([b"1"] * (MOST_ENTRIES + 1)) + b"]}"


def posted(body: bytes, loss: str = "softmax", **headers: str) -> Callable[[str], int]:
    return lambda url: post(f"{url}/v1/losses/{loss}", body, headers).status


def sent(raw: bytes) -> Callable[[str], int]:
    """The status that answers bytes on a connection of their own."""

    def send(url: str) -> int:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
            connection.sendall(raw)
            return int(connection.recv(64).split()[1])

    return send


# What is sent, the status that answers, and the reason that it counts as.
REFUSED: dict[str, tuple[Callable[[str], int], int, str]] = {
    "a host of others": (lambda url: asked(url, "/metrics", hosts=("evil.example",)), 400, "UNKNOWN_HOST"),
    "a page of others": (
        lambda url: asked(url, SOFTMAX, "POST", LOCAL, origin="http://evil.example"),
        400,
        "FOREIGN_ORIGIN",
    ),
    "no such path": (lambda url: asked(url, "/nothing"), 404, "UNKNOWN_PATH"),
    "no such method": (lambda url: asked(url, "/metrics", "PUT"), 405, "UNKNOWN_PATH"),
    "no such loss": (posted(b"{}", "hinge"), 404, "UNKNOWN_LOSS"),
    "another type": (posted(b"{}", content_type="text/plain"), 400, "WRONG_CONTENT_TYPE"),
    "compressed": (posted(b"{}", content_encoding="gzip"), 400, "WRONG_CONTENT_TYPE"),
    "a large body": (posted(b" " * (MOST_BODY_BYTES + 1)), 413, "BODY_TOO_LARGE"),
    "many numbers": (posted(MANY), 413, "BODY_TOO_LARGE"),
    "no JSON": (posted(b"{"), 400, "NOT_JSON"),
    "no tensor": (posted(b'{"input": [[1], 2]}'), 400, "NOT_A_TENSOR"),
    "another name": (posted(b'{"inputs": [1]}'), 400, "UNKNOWN_PARAMETER"),
    "no process to ask": (posted(b'{"input": [1]}'), 503, "NO_WORKER"),
    "two hosts": (lambda url: asked(url, "/", hosts=("localhost", "localhost")), 400, "other"),
    "no HTTP": (sent(b"nonsense\r\n\r\n"), 400, "other"),
    "a long head": (sent(b"GET / HTTP/1.1\r\nx: " + b"y" * HEAD_BYTES), 400, "other"),
}


def counted(url: str) -> dict[str, float]:
    return {labels["reason"]: value for labels, value in scraped(url).series("lossd_http_refused_total")}


@pytest.mark.parametrize("way", REFUSED)
def test_ways_to_be_refused(way: str) -> None:
    """Each is one of its reason, and nothing else; before, there is no series."""
    send, code, reason = REFUSED[way]
    with http_port(WorkerMetrics()) as url:
        assert counted(url) == {}
        assert send(url) == code
        assert counted(url) == {reason: 1.0}
        assert send(url) == code
        assert counted(url) == {reason: 2.0}


def test_no_way_is_missing() -> None:
    """Every reason of the HTTP port is brought about here, and each that counts is one of the table."""
    (section,) = [one for one in reason_sections() if one.title == "JSON over HTTP"]
    here = {reason for _, _, reason in REFUSED.values()}

    assert {reason.name for reason in section.reasons} - here == {"WORKER_LOST"}  # below
    assert here - set(known_reasons()) == {"other"}


@pytest.mark.parametrize("wrong", WRONG)
def test_strangers(wrong: str, tokens: TokenFile) -> None:
    """Who shows nothing, or what is not known; health and pages refuse nobody."""
    metrics = WorkerMetrics()
    with http_port(metrics, tokens=tokens.path) as url:
        assert [status(url + path, WRONG[wrong]) for path in ("/metrics", "/nothing")] == [401, 401]
        assert [status(url + path, WRONG[wrong]) for path in ("/healthz", "/playground")] == [200, 200]
        assert status(f"{url}/metrics", [("Authorization", f"Bearer {tokens.token}")]) == 200

    ((reason, count),) = http_refused_of(metrics.all).items()
    assert count == 2
    assert known_reasons()[reason].code.name == "UNAUTHENTICATED"


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[str]:
    """The socket of a process that takes a call and ends."""
    path = str(tmp_path / "0")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(30)

        def take() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=take)
        thread.start()
        yield path
        thread.join()


def test_a_process_that_is_lost(dying: str) -> None:
    """The call is the HTTP port's to answer: nobody else can count it."""
    metrics = WorkerMetrics()
    readiness = Readiness(metrics.all)
    readiness.phase = Phase.SERVING
    port = HttpPort(Settings(http="0"), metrics.all, readiness, [dying])
    url = port.start()
    try:
        assert post(f"{url}{SOFTMAX}", b'{"input": [1]}', {}).status == 503
        assert counted(url) == {"WORKER_LOST": 1.0}
    finally:
        port.stop()


def test_what_a_loss_refuses(numba: Backend) -> None:
    """It counts as any call, and not here; so does what is answered."""
    with http_server(numba) as server:
        assert server.post("softmax", {"input": [1.0]}).status == 200
        assert server.post("cross_entropy", {"input": [[1.0, 2.0]], "target": [2]}).status == 400
        page = scraped(server.url)

    assert page.series("lossd_http_refused_total") == []
    assert page.value("lossd_refused_total", reason="CLASS_OUT_OF_RANGE") == 1


def test_the_status_shows_it(numba: Backend) -> None:
    """Beside what calls were refused with."""
    with http_server(numba) as server:
        server.get("/nothing")
        server.post("softmax", b"")

        assert server.get("/v1/status").json["http_refused"] == {"UNKNOWN_PATH": 1, "NOT_JSON": 1}


def test_workers_that_come_and_go() -> None:
    """The counts belong to no worker: one that takes a slot anew changes none, and they change none of its words."""
    memory = shared(2)
    first = WorkerMetrics(0, memory)
    before = list(WorkerMetrics(1, memory).words[1:])
    refusals = HttpRefusals(first.all)
    for reason in ("NOT_JSON", "UNKNOWN_PATH", "NOT_JSON", ""):
        refusals.count(reason)
    again = WorkerMetrics(1, memory)

    assert list(again.words[1:]) == before
    assert http_refused_of(again.all) == {"NOT_JSON": 2, "UNKNOWN_PATH": 1, "other": 1}


def test_reasons_are_bounded() -> None:
    """Beyond as many as there is room for, all count as one."""
    metrics = WorkerMetrics()
    refusals = HttpRefusals(metrics.all)
    for number in range(MOST_NAMES + 10):
        refusals.count(f"REASON_{number}")
    found = http_refused_of(metrics.all)

    assert len(found) == MOST_NAMES
    assert found["other"] == 11

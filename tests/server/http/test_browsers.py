"""Browsers are guests: whom the HTTP port answers, by the names and origins that their requests have."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from lossd_server.backends import Backend
from lossd_server.http.pages import FILES
from lossd_server.metrics.worker_metrics import WorkerMetrics
from tests.credentials import Pki
from tests.server.http.serving_http import HttpServer, http_server
from tests.server.http.test_walk import context, status
from tests.server.identity.conftest import pki
from tests.server.metrics.scraping import http_port

__all__ = ["pki"]  # a fixture

KNOWN = (
    "127.0.0.1",
    "localhost",
    "LOCALHOST:9464",
    "a.localhost:1",
    "[::1]:9464",
    "10.1.2.3",
    "server:9464",
    "loss.example:1",
)
STRANGE = (
    "",
    "evil.example",
    "evil.example:9464",
    "127.0.0.1.evil.example",
    "loss.example.evil",
    ".",
    "[::1].x.y",
    "a.b:x",
)


@pytest.fixture(scope="module")
def served(numba: Backend) -> Iterator[HttpServer]:
    with http_server(numba, http_host=("Loss.example",)) as found:
        yield found


def asked(url: str, path: str, method: str = "GET", hosts: tuple[str, ...] = ("localhost",), **headers: str) -> int:
    """The status of a request with any number of Hosts."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    body = b'{"input": [1]}' if method == "POST" else b""
    for host in hosts:
        connection.putheader("host", host)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body:
        connection.putheader("content-length", str(len(body)))
        connection.putheader("content-type", "application/json")
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.parametrize("path", ["/metrics", "/v1/status", "/openapi.json", *FILES])
def test_names(path: str, served: HttpServer) -> None:
    """Addresses, localhost, names without a dot, and those of --http-host; no other site can have one of them."""
    assert {host: asked(served.url, path, hosts=(host,)) for host in KNOWN} == dict.fromkeys(KNOWN, 200)
    assert {host: asked(served.url, path, hosts=(host,)) for host in STRANGE} == dict.fromkeys(STRANGE, 400)
    assert asked(served.url, path, hosts=("loss.example:1",)) == 200
    assert asked(served.url, path, hosts=("localhost", "localhost")) == 400


def test_health_answers_by_any_name(served: HttpServer) -> None:
    """A probe may call it as it likes: it hears nothing that is not for everybody."""
    assert [asked(served.url, path, hosts=("evil.example",)) for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_certificate_proves_the_name(pki: Pki) -> None:
    """With TLS any name is taken: a browser has seen to it that it is the certificate's."""
    with http_port(WorkerMetrics(), **pki.serving) as url:
        url = url.replace("127.0.0.1", "localhost")
        assert status(f"{url}/metrics", [("Host", "loss.example.org")], tls=context(pki)) == 200


def test_posts_of_other_pages(served: HttpServer) -> None:
    """A POST is our own page's, or no page's."""
    path, url = "/v1/losses/softmax", served.url

    def post(**headers: str) -> int:
        return asked(url, path, "POST", ("localhost",), **headers)

    assert post() == 200
    assert post(origin="http://localhost") == 200
    assert post(origin="http://localhost", sec_fetch_site="same-origin") == 200
    assert post(sec_fetch_site="none") == 200
    for origin in (
        "http://evil.example",
        "null",
        "https://localhost",
        "http://localhost:1",
        "",
        "http://localhost.evil",
    ):
        assert post(origin=origin) == 400, origin
    for site in ("cross-site", "same-site", ""):
        assert post(sec_fetch_site=site) == 400, site
        assert post(origin="http://localhost", sec_fetch_site=site) == 400, site


@pytest.mark.parametrize("path", ["/", "/playground", "/v1/status", "/metrics", "/static/common.js", "/openapi.json"])
def test_nothing_but_reading_there(path: str, served: HttpServer) -> None:
    """What is read takes no POST, and no preflight is answered: another site may send nothing but what forms send."""
    assert [asked(served.url, path, method) for method in ("POST", "PUT", "OPTIONS")] == [405, 405, 405]
    assert asked(served.url, "/v1/losses/softmax", "OPTIONS", origin="http://evil.example") == 400


def test_a_page_runs_nothing_but_its_own(served: HttpServer) -> None:
    """The policy names this server alone; no page has a script, a style or an address of another's in it."""
    for path in FILES:
        reply = served.get(path)
        policy = dict(one.strip().split(" ", 1) for one in reply.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert policy["frame-ancestors"] == "'none'"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        text = reply.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
        if path in ("/", "/playground"):
            assert "http://" not in text
            assert " style=" not in text
            assert "<script>" not in text
            assert "onclick" not in text


def test_files_are_a_list(served: HttpServer) -> None:
    """Nothing else of the folder, or beyond it, is read."""
    for path in (
        "/static/status.html",
        "/static/../gate.py",
        "/static/%2e%2e/gate.py",
        "/static//common.js",
        "/static",
    ):
        assert served.get(path).status == 404

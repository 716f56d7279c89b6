"""Every path of the HTTP port asks who calls, but for health and pages: without credentials, with wrong ones."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lossd_server.call.identity import subject_of
from lossd_server.http.pages import FILES
from lossd_server.metrics.worker_metrics import WorkerMetrics
from tests.credentials import Pki, TokenFile
from tests.server.identity.conftest import another_pki, pki, tokens
from tests.server.metrics.scraping import http_port
from tests.waiting import until

__all__ = ["another_pki", "pki", "tokens"]  # fixtures

PATHS = (
    *("/metrics", "/v1/status", "/v1/losses/bce", "/openapi.json", "/static/", "//", "/static/../metrics", "/nothing"),
    *("/metrics/", "//metrics", "/healthz/", "/healthz/../metrics", "/HEALTHZ", "/%2e", "/playground/"),
)
OPEN = ("/healthz", "/readyz", "/healthz?x=/metrics", *FILES)
WRONG: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "an unknown token": [("Authorization", "Bearer wrong")],
    "no bearer token": [("Authorization", "Basic dHJhaW5lcjp0cmFpbmVy")],
    "no token": [("Authorization", "Bearer ")],
    "several": [("Authorization", "Bearer a"), ("authorization", "Bearer b")],
}


def status(url: str, headers: list[tuple[str, str]] | None = None, tls: ssl.SSLContext | None = None) -> int:
    """How a GET is answered, and what it says."""
    request = urllib.request.Request(url)
    for name, value in headers or []:
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=30, context=tls) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("wrong", WRONG)
def test_only_health_answers_strangers(wrong: str, tokens: TokenFile) -> None:
    """401 wherever it is, also where nothing is."""
    with http_port(WorkerMetrics(), tokens=tokens.path) as url:
        assert {path: status(url + path, WRONG[wrong]) for path in PATHS} == dict.fromkeys(PATHS, 401)
        assert {path: status(url + path, WRONG[wrong]) for path in OPEN} == dict.fromkeys(OPEN, 200)


def test_a_token_opens_the_port(tokens: TokenFile) -> None:
    """Who is known reads metrics, and hears of what is not there."""
    known = [("Authorization", f"Bearer {tokens.token}")]
    with http_port(WorkerMetrics(), tokens=tokens.path) as url:
        assert [status(url + path, known) for path in ("/metrics", "/nothing", "/healthz")] == [200, 404, 200]


def test_a_token_that_is_taken_away(tokens: TokenFile) -> None:
    """The file is read again when it changes."""
    known = [("Authorization", f"Bearer {tokens.token}")]
    with http_port(WorkerMetrics(), tokens=tokens.path) as url:
        assert status(f"{url}/metrics", known) == 200
        Path(tokens.path).write_text("somebody-else: certificate\n")
        assert status(f"{url}/metrics", known) == 401


def test_everybody_may_where_nobody_is_asked() -> None:
    """A server without tokens and authorities shows its metrics."""
    with http_port(WorkerMetrics()) as url:
        assert [status(url + path) for path in ("/metrics", "/nothing", "/healthz")] == [200, 404, 200]


def context(authority: Pki, client: Pki | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.ca_pem)
    if client is not None:
        made.load_cert_chain(client.client_pem, client.client_key)
    return made


def test_tls_and_certificates_of_clients(pki: Pki, another_pki: Pki) -> None:
    """Health answers without a certificate, metrics to one of the authority's; another's gets no connection."""
    with http_port(WorkerMetrics(), tls_client_ca=pki.ca_pem, **pki.serving) as url:
        assert url.startswith("https://")
        url = url.replace("127.0.0.1", "localhost")
        assert [status(url + path, tls=context(pki)) for path in ("/healthz", "/metrics")] == [200, 401]
        assert status(f"{url}/metrics", tls=context(pki, pki)) == 200
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            status(f"{url}/healthz", tls=context(pki, another_pki))


def test_renewed_certificates(pki: Pki) -> None:
    """New connections have the new certificate, without a start."""
    with http_port(WorkerMetrics(), **pki.serving) as url:
        url = url.replace("127.0.0.1", "localhost")
        before = context(pki)
        assert status(f"{url}/healthz", tls=before) == 200
        pki.renew()

        def renewed() -> bool:
            try:
                return status(f"{url}/healthz", tls=context(pki)) == 200
            except urllib.error.URLError:
                return False

        until(renewed, "the new certificate is shown")


def test_subjects() -> None:
    """The common name of what `getpeercert` gives."""
    assert subject_of({"subject": ((("countryName", "CH"),), (("commonName", "client-7"),))}) == "client-7"
    assert [subject_of(found) for found in (None, {}, {"subject": ()})] == ["", "", ""]

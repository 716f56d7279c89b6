"""Certificates that end: read from any that OpenSSL takes, told in the metrics, and warned of in time."""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from lossd_server.config.settings import FRONTS, Settings
from lossd_server.identity.certificate_expiry import DAY_S, WARN_S, ExpiryWarnings, earliest_end
from lossd_server.identity.certificates import CertificateFiles, Certificates
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.server import Server
from tests.credentials import Pki
from tests.server.edge import EdgeBackend
from tests.server.metrics.scraping import Page, http_port
from tests.waiting import until

BEGIN = datetime(1950, 1, 1)
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
NOW_S = 1.8e9


def certificate(end: datetime) -> x509.Certificate:
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, BEGIN, end)
    return builder.sign(KEY, hashes.SHA256())


def pem(*ends: datetime) -> bytes:
    return b"text before\n".join(certificate(end).public_bytes(serialization.Encoding.PEM) for end in ends)


def armoured(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + b64encode(der) + b"\n-----END CERTIFICATE-----\n"


DER = certificate(datetime(2030, 1, 1)).public_bytes(serialization.Encoding.DER)


def element(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(content).to_bytes(2) + content


ENDS = st.datetimes(datetime(1950, 1, 2), datetime(9999, 12, 31)).map(lambda end: end.replace(microsecond=0))


@given(st.lists(ENDS, min_size=1, max_size=3))
def test_the_first_end_of_a_file(ends: list[datetime]) -> None:
    """As another library reads it, in either form of a date: of two digits before 2050, of four from then on."""
    expected = min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(pem(*ends)))

    assert earliest_end(pem(*ends)) == expected == min(end.replace(tzinfo=UTC) for end in ends).timestamp()


def test_a_certificate_of_version_1() -> None:
    """Does not say its version, so that all else stands one place before."""
    dates = element(0x17, b"200101000000Z") + element(0x17, b"300102030405Z")
    begin = element(0x02, b"\1") + element(0x30, b"") + element(0x30, b"")
    der = element(0x30, element(0x30, begin + element(0x30, dates)))

    assert earliest_end(armoured(der)) == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


@given(st.data())
def test_what_cannot_be_read_has_no_end(data: st.DataObject) -> None:
    """Whatever a file holds, it is no error: OpenSSL has the last word on it."""
    der = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(der)))

    assert isinstance(earliest_end(armoured(bytes(der[:cut]))), float | None)
    assert earliest_end(data.draw(st.binary())) is None
    assert earliest_end(armoured(data.draw(st.binary(max_size=30)))) is None


def test_files_that_are_replaced(pki: Pki) -> None:
    """Have the end of what new connections get: by setting, and not before the files fit together."""
    files = CertificateFiles(pki.server_pem, pki.server_key, pki.ca_pem)
    certificates = Certificates(files)
    before = dict(certificates.ends)
    assert set(before) == {"tls_cert", "tls_client_ca"}
    server_pem = Path(pki.server_pem).read_bytes()
    pki.renew(days=30)
    renewed = Path(pki.server_pem).read_bytes()
    Path(pki.server_pem).write_bytes(server_pem)
    certificates.look()
    assert certificates.ends == before
    Path(pki.server_pem).write_bytes(renewed)
    certificates.look()

    for setting, end in certificates.ends.items():
        assert end - before[setting] == pytest.approx(29 * DAY_S, abs=60)
    assert set(Certificates(CertificateFiles(pki.server_pem, pki.server_key, "")).ends) == {"tls_cert"}


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Events that were logged since the last time, with the days that they say are left."""
    found = [(record.message, vars(record)["days_left"]) for record in caplog.records]
    caplog.clear()
    return found


def test_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """When fewer than 14 days are left, or none: at once, then each day; and of a new file that ends soon at once."""
    warnings = ExpiryWarnings()
    end_s = NOW_S + WARN_S
    soon, expired = "a certificate expires soon", "a certificate has expired"

    def after(seconds: float, end_s: float = end_s) -> list[tuple[str, int]]:
        warnings.check({"tls_cert": end_s}, NOW_S + seconds)
        return said(caplog)

    assert after(0.0) == []
    assert after(1.0) == [(soon, 13)]
    assert after(2.0) == after(DAY_S) == []
    assert after(1.0 + DAY_S) == [(soon, 12)]
    assert after(2.0 + DAY_S, end_s - DAY_S) == [(soon, 11)]
    assert after(3.0 + DAY_S, end_s - DAY_S) == []
    assert after(4.0 + DAY_S, end_s + 100 * DAY_S) == []
    assert after(WARN_S) == [(expired, 0)]
    assert after(WARN_S + DAY_S) == [(expired, -1)]
    # A clock that is set back does not silence it.
    assert after(1.0) == [(soon, 13)]


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("days", [1, 15])
def test_a_server_says_it_when_it_starts(front: str, days: int, pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    """By setting, so that no path is in the log; on either front."""
    pki.renew(days)

    async def body() -> None:
        given: dict[str, Any] = {"front": front, **pki.serving}
        server = Server(Settings(listen=("127.0.0.1:0",), **given), EdgeBackend())
        await server.start()
        await server.stop(1.0, linger_s=0.0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(body())

    found = [record for record in caplog.records if record.message.startswith("a certificate")]
    assert [vars(record)["setting"] for record in found] == (["tls_cert"] if days == 1 else [])
    for record in found:
        end = datetime.now(UTC) + timedelta(days=1)
        assert vars(record)["expires"][:13] in {f"{end - timedelta(hours=h):%Y-%m-%dT%H}" for h in (0, 1)}


def test_the_metric_follows_the_files(pki: Pki) -> None:
    """By setting, never by path; and there is none without TLS."""
    name = "lossd_certificate_expiry_timestamp_seconds"
    trusted = ssl.create_default_context(cafile=pki.ca_pem)

    def scrape(url: str) -> Page:
        context = trusted if url.startswith("https") else None
        with urllib.request.urlopen(f"{url}/metrics", timeout=30, context=context) as answer:
            return Page(answer.read().decode())

    with http_port(WorkerMetrics(), **pki.serving) as url:
        before = scrape(url).series(name)
        assert [labels for labels, _ in before] == [{"file": "tls_cert"}]
        pki.renew(days=30)
        trusted.load_verify_locations(pki.ca_pem)
        until(lambda: scrape(url).value(name, file="tls_cert") > before[0][1] + 28 * DAY_S, "the new one is told of")
    with http_port(WorkerMetrics()) as url:
        page = scrape(url)
        assert page.families[name] == "gauge"
        assert page.series(name) == []

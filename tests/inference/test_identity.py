"""Triton's client over TLS, with a token or a certificate: as lossd's own, and as plainly refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lossd
from lossd_server.config.settings import FRONTS
from tests.credentials import Pki, TokenFile
from tests.inference.cases import cases
from tests.inference.conftest import triton_calls
from tests.server.server_process import process

CASE = next(cases())  # another one each time that it is asked for
WAYS = ["infer", "async_infer", "async_stream_infer", "aio_infer", "aio_stream_infer"]


@dataclass(frozen=True)
class Secured:
    """A server, and who may call it."""

    address: str
    pki: Pki
    token: str

    @property
    def trusting(self) -> dict[str, Any]:
        """Arguments of Triton's client."""
        return {"ssl": True, "root_certificates": self.pki.ca_pem}


@pytest.fixture(scope="module", params=FRONTS)
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """With TLS, which asks for a token."""
    folder = tmp_path_factory.mktemp("secured")
    pki, tokens = Pki(folder / "pki"), TokenFile.made(folder / "tokens")
    pki.renew()
    flags = ["--tls-cert", pki.server_pem, "--tls-key", pki.server_key, "--tokens", tokens.path]
    with process("--listen", "127.0.0.1:0", "--front", request.param, *flags) as (_, address):
        yield Secured(address, pki, tokens.token)


@pytest.fixture(scope="module", params=FRONTS)
def demanding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """With TLS, which asks for a certificate."""
    pki = Pki(tmp_path_factory.mktemp("demanding"))
    pki.renew()
    flags = ["--tls-cert", pki.server_pem, "--tls-key", pki.server_key, "--tls-client-ca", pki.ca_pem]
    with process("--listen", "127.0.0.1:0", "--front", request.param, *flags) as (_, address):
        yield Secured(address, pki, "")


def asked(token: str | None) -> list[Any]:
    """One call. token: None for no header."""
    headers = {} if token is None else {"headers": {"authorization": f"Bearer {token}"}}
    return [{**CASE.triton("one"), **headers}]


@pytest.mark.parametrize("way", WAYS)
def test_a_token(way: str, secured: Secured, triton_python: Path, tmp_path: Path) -> None:
    """Is a header of each call, or of the stream: the answer has the bits of lossd's own client."""
    (found,) = triton_calls(triton_python, tmp_path, secured.address, way, asked(secured.token), **secured.trusting)
    with lossd.Client(secured.address, ca=secured.pki.ca_pem, token=secured.token) as client:
        assert found["outputs"] == CASE.own(client)


# What grpc.aio says in place of the status where that came while it was still sending; Triton's client has no more.
WRITE_FAILED = "Internal error from Core"
TRIES = 5

WRONG = {"none": (None, "this server asks who calls: a token"), "a wrong one": ("wrong", "none of this server's")}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("way", WAYS)
def test_no_token(way: str, what: str, secured: Secured, triton_python: Path, tmp_path: Path) -> None:
    """UNAUTHENTICATED, with the sentence that says what is missing."""
    token, words = WRONG[what]
    for _ in range(TRIES):
        (found,) = triton_calls(triton_python, tmp_path, secured.address, way, asked(token), **secured.trusting)
        if found["error"] != WRITE_FAILED:
            break

    assert words in found["error"]
    assert found["status"] == "StatusCode.UNAUTHENTICATED"


@pytest.mark.parametrize("way", ["infer", "aio_stream_infer"])
def test_a_certificate(way: str, demanding: Secured, triton_python: Path, tmp_path: Path) -> None:
    """Is shown by the client's own arguments; without one there is no connection."""
    pki = demanding.pki
    shown = {"private_key": pki.client_key, "certificate_chain": pki.client_pem, **demanding.trusting}
    (found,) = triton_calls(triton_python, tmp_path, demanding.address, way, asked(None), **shown)
    with lossd.Client(demanding.address, **pki.shown) as client:
        assert found["outputs"] == CASE.own(client)

    (refused,) = triton_calls(triton_python, tmp_path, demanding.address, way, asked(None), **demanding.trusting)
    assert refused["status"] == "StatusCode.UNAVAILABLE"

"""Connections that TLS does not agree on: both clients and the commands say what to give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

import lossd
from lossd import cli
from lossd.command_line import make_certificates
from lossd.command_line.credential_flags import in_flags
from lossd.rpc import retry
from lossd.rpc.credentials import VARIABLES
from lossd_server.config.settings import FRONTS, Settings
from lossd_server.server import Server
from tests.credentials import Pki, TokenFile
from tests.server.edge import EdgeBackend


@dataclass(frozen=True)
class Fault:
    """server, client: settings and arguments. listen: where the server is. reason: said, with these words."""

    server: Callable[[dict[str, Pki]], Mapping[str, Any]]
    client: Callable[[dict[str, Pki]], dict[str, Any]]
    reason: str
    words: tuple[str, ...]
    listen: str = "127.0.0.1:0"


def key_of_another(pki: dict[str, Pki]) -> dict[str, Any]:
    return {**pki["good"].shown, "key": pki["other"].client_key}


FAULTS = {
    "no certificate": Fault(
        lambda pki: pki["good"].demanding,
        lambda pki: pki["good"].trusting,
        "CERTIFICATE_WANTED",
        ("ended the TLS handshake", "cert=FILE and key=FILE"),
    ),
    "another authority's certificate": Fault(
        lambda pki: pki["good"].demanding,
        lambda pki: {**pki["other"].shown, **pki["good"].trusting},
        "CERTIFICATE_NOT_TAKEN",
        ("ended the TLS handshake", "cert=FILE", "authority"),
    ),
    "an expired certificate": Fault(
        lambda pki: {**pki["good"].serving, "tls_client_ca": pki["expired"].ca_pem},
        lambda pki: {**pki["expired"].shown, **pki["good"].trusting},
        "CERTIFICATE_NOT_TAKEN",
        ("ended the TLS handshake", "within its dates"),
    ),
    "no TLS": Fault(
        lambda pki: pki["good"].serving, lambda pki: {}, "NOT_A_SERVER", ("want TLS (tls=True, or ca=FILE)",)
    ),
    "TLS of a server without": Fault(
        lambda pki: {}, lambda pki: pki["good"].trusting, "NO_TLS_THERE", ("neither tls=, ca= nor cert=", "LOSSD_CA")
    ),
    "another authority": Fault(
        lambda pki: pki["good"].serving,
        lambda pki: pki["other"].trusting,
        "UNKNOWN_AUTHORITY",
        ("give ca=FILE with the one that signed it",),
    ),
    "an authority that is not well known": Fault(
        lambda pki: pki["good"].serving, lambda pki: {"tls": True}, "UNKNOWN_AUTHORITY", ("give ca=FILE",)
    ),
    "another host": Fault(
        lambda pki: pki["good"].serving,
        lambda pki: pki["good"].trusting,
        "NOT_THAT_HOST",
        ("127.0.0.2", "use a name that it has"),
        listen="127.0.0.2:0",
    ),
    "an expired server": Fault(
        lambda pki: pki["expired"].serving,
        lambda pki: pki["expired"].trusting,
        "CERTIFICATE_OUT_OF_DATE",
        ("has expired", "clock"),
    ),
}


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Pki]:
    """Three authorities: the certificates of the one called expired ended yesterday."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    found = {name: Pki(tmp_path / name) for name in ("good", "other", "expired")}
    for name in ("good", "other"):
        found[name].renew()
    monkeypatch.setattr(make_certificates, "EARLIER", timedelta(days=3))
    make_certificates.make_certificates(found["expired"].folder, [], "client-7", days=-1)
    return found


@pytest.fixture(autouse=True)
def nothing_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first failure is said, so that no test has to wait for a time that ends it."""
    monkeypatch.setattr(retry, "FIRST_S", inf)
    monkeypatch.setattr(retry, "LONGEST_S", inf)


def failures(settings: dict[str, Any], ask: Callable[[str], Any]) -> Any:
    """What `ask` finds, in a thread beside a server."""

    async def body() -> Any:
        server = Server(Settings(**settings), EdgeBackend())
        (address,) = await server.start()
        try:
            return await asyncio.to_thread(ask, address)
        finally:
            await server.stop(1.0, linger_s=0.0)

    return asyncio.run(body())


def said_by_both(address: str, given: dict[str, Any]) -> list[lossd.Error]:
    async def awaited() -> lossd.Error:
        async with lossd.aio.Client(address, **given) as client:
            with pytest.raises(lossd.Unavailable) as caught:
                await client.info()
        return caught.value

    with (
        lossd.Client(address, **given) as client,
        pytest.raises(lossd.Unavailable) as caught,
    ):
        client.info()
    return [caught.value, asyncio.run(awaited())]


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_tls_does_not_agree_on(fault: str, front: str, pki: dict[str, Pki]) -> None:
    """Is said with what to give: by both clients, of either front."""
    one = FAULTS[fault]
    settings = {"listen": (one.listen,), "front": front, **one.server(pki)}
    said = failures(settings, lambda address: said_by_both(address, one.client(pki)))

    assert [error.reason for error in said] == [one.reason] * 2
    assert str(said[0]) == str(said[1])
    for words in one.words:
        assert words in str(said[0])


@pytest.mark.parametrize("front", FRONTS)
def test_a_connection_too_many(front: str, pki: dict[str, Pki]) -> None:
    """Is not taken for a certificate that is wanted, where the server could say what it is."""

    def ask(address: str) -> lossd.Error:
        given = pki["good"].trusting
        with lossd.Client(address, **given) as first, lossd.Client(address, **given) as second:
            assert first.health()
            with pytest.raises(lossd.Unavailable) as caught:
                second.health()
        return caught.value

    if front == "grpcio":
        pytest.skip("core closes it without a word")
    settings = {"listen": ("127.0.0.1:0",), "front": front, "max_connections": 1, **pki["good"].serving}

    assert failures(settings, ask).reason == "TOO_MANY_CONNECTIONS"


def test_files_that_do_not_fit_together(pki: dict[str, Pki]) -> None:
    """Are refused before anything is connected: a key of another certificate, and PEM that holds no certificate."""
    broken = Path(pki["good"].folder / "broken.pem")
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    for given, field, words in (
        (key_of_another(pki), "cert", "this key does not belong to the certificate"),
        ({"ca": str(broken)}, "ca", "OpenSSL does not take it"),
    ):
        with lossd.Client("127.0.0.1:1", **given) as client:
            with pytest.raises(lossd.InvalidArgument, match=words) as caught:
                client.info(timeout=0.1)
            assert (caught.value.field, caught.value.reason) == (field, "UNREADABLE_FILE")


TOKENS: dict[str, tuple[dict[str, Any], str, str]] = {
    "none": (
        {},
        "NO_CREDENTIALS",
        "give token=TOKEN or token_file=FILE (or LOSSD_TOKEN, LOSSD_TOKEN_FILE), or cert=FILE and key=FILE",
    ),
    "a wrong one": (
        {"token": "wrong"},
        "UNKNOWN_TOKEN",
        "is token= (or LOSSD_TOKEN) what `lossd token` printed for it?",
    ),
}


@pytest.mark.parametrize("what", TOKENS)
def test_callers_that_are_not_known(what: str, pki: dict[str, Pki], tmp_path: Path) -> None:
    """Hear from their client what to give, whatever they call."""
    given, reason, words = TOKENS[what]
    given = {**given, **pki["good"].trusting}
    tokens = TokenFile.made(tmp_path / "tokens")

    def ask(address: str) -> list[BaseException]:
        with lossd.Client(address, **given) as client:
            calls: list[Callable[[], Any]] = [
                client.info,
                lambda: client.entropy([0.5, 0.5]),
                lambda: client.entropy([0.5, 0.5], transport="stream"),
                lambda: list(client.map("entropy", [([0.5, 0.5],)])),
            ]
            found: list[BaseException] = []
            for call in calls:
                with pytest.raises(lossd.Unauthenticated) as refused:
                    call()
                found.append(refused.value)

        async def awaited() -> BaseException:
            async with lossd.aio.Client(address, **given) as client:
                with pytest.raises(lossd.Unauthenticated) as caught:
                    await client.entropy([0.5, 0.5])
            return caught.value

        return [*found, asyncio.run(awaited())]

    settings = {"listen": ("127.0.0.1:0",), "tokens": tokens.path, **pki["good"].serving}
    said = failures(settings, ask)

    assert {error.reason for error in said} == {reason}
    assert len({str(error) for error in said}) == 1
    assert str(said[0]).endswith(words)
    assert str(said[0]).count(words) == 1


@pytest.mark.parametrize(
    "given, flags",
    [
        ("give cert=FILE and key=FILE", "give --cert FILE and --key FILE"),
        ("want TLS (tls=True, or ca=FILE)?", "want TLS (--tls, or --ca FILE)?"),
        ("neither tls=, ca= nor cert= (nor LOSSD_CA)", "neither --tls, --ca nor --cert (nor LOSSD_CA)"),
        ("give token=TOKEN (or LOSSD_TOKEN)", "give --token TOKEN (or LOSSD_TOKEN)"),
        ("or token_file=FILE (or", "or --token-file FILE (or"),
        ("token= or token_file=, not both", "--token or --token-file, not both"),
        ("token_file = '/a/token=b' is empty", "token_file = '/a/token=b' is empty"),
        ("which tls=False turns off", "which tls=False turns off"),
        ("key = '/a/key=b' with cert = 'x'", "key = '/a/key=b' with cert = 'x'"),
    ],
)
def test_sentences_of_a_command(given: str, flags: str) -> None:
    """Name its flags, where a client's name arguments."""
    assert in_flags(Exception(given)) == flags


COMMANDS = {
    "health": ["health"],
    "info": ["info"],
    "eval": ["eval", "cross_entropy", "--input", "{x}", "--target", "{y}"],
    "bench": ["bench", "--concurrency", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, pki: dict[str, Pki], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Say it in one line, with their flags, and end with status 1."""
    (tmp_path / "x.csv").write_text("0,0\n1,0\n")
    (tmp_path / "y.csv").write_text("0\n1\n")
    arguments = [one.format(x=tmp_path / "x.csv", y=tmp_path / "y.csv") for one in COMMANDS[command]]

    def ask(address: str) -> int:
        return cli.main([*arguments, "--server", address, "--ca", pki["good"].ca_pem])

    assert failures({"listen": ("127.0.0.1:0",), **pki["good"].demanding}, ask) == 1
    printed = capsys.readouterr()
    assert printed.err.rstrip().endswith("give --cert FILE and --key FILE")
    assert printed.out == ""

"""Every language over TLS, with a token or a certificate; what is missing or wrong is said, with the option's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from lossd.rpc.credentials import VARIABLES
from tests.credentials import Pki, TokenFile
from tests.languages.languages import LANGUAGES, Language
from tests.server.server_process import process

ANSWERED = "loss 0.132384, streamed 0.132384"
# Where nobody resolves the name: what is refused is refused before.
ELSEWHERE = "losses.example:1"


@dataclass(frozen=True)
class Case:
    """To which server, with which arguments or environment, and a pattern of what is printed; told is in any case."""

    server: str
    told: str
    given: str = ""
    environment: str = ""


CA, CERT = "ca={pki}/ca.pem", "cert={pki}/client.pem key={pki}/client.key"
# Each language has its own spelling of token_file; letters are compared without their case.
TWO_WAYS = r"\btoken or token_?file \(.*LOSSD_TOKEN, LOSSD_TOKEN_FILE\)"
TOO_MANY = r"\btoken or token_?file \(LOSSD_TOKEN or LOSSD_TOKEN_FILE\), not both"
CASES = {
    "a token": Case("asks for a token", ANSWERED, f"{CA} token={{token}}"),
    "a token of the environment": Case("asks for a token", ANSWERED, environment=f"{CA} token={{token}}"),
    "a token's file": Case("asks for a token", ANSWERED, f"{CA} token_file={{mounted}}/token"),
    "a token's file of the environment": Case(
        "asks for a token", ANSWERED, environment=f"{CA} token_file={{mounted}}/token"
    ),
    "a token before the environment's file": Case(
        "asks for a token", ANSWERED, f"{CA} token={{token}}", "token_file=/nowhere"
    ),
    "a token's file before the environment's token": Case(
        "asks for a token", ANSWERED, f"{CA} token_file={{mounted}}/token", "token=wrong"
    ),
    "a certificate": Case("asks for a certificate", ANSWERED, f"{CA} {CERT}"),
    "a certificate of the environment": Case("asks for a certificate", ANSWERED, environment=f"{CA} {CERT}"),
    "a plain server": Case("plain", ANSWERED),
    "no token": Case("asks for a token", rf"NO_CREDENTIALS.*{TWO_WAYS}", CA),
    "a wrong token": Case("asks for a token", rf"UNKNOWN_TOKEN.*{TWO_WAYS}", f"{CA} token=wrong"),
    "a token and its file": Case("asks for a token", TOO_MANY, f"{CA} token={{token}} token_file={{mounted}}/token"),
    "a token and its file of the environment": Case(
        "asks for a token", TOO_MANY, CA, "token={token} token_file={mounted}/token"
    ),
    "a token's file that is not there": Case(
        "asks for a token", r"token_?file\b.*/nowhere\W+cannot be read", f"{CA} token_file=/nowhere"
    ),
    "an empty token's file": Case(
        "asks for a token", r"token_?file\b.*/empty\W+is empty", f"{CA} token_file={{mounted}}/empty"
    ),
    "a file of two tokens": Case(
        "asks for a token", r"token_?file\b.*/two\W+holds something else", CA, "token_file={mounted}/two"
    ),
    "a token's file in the clear": Case("elsewhere", r"token.*\btls\b.*\bca\b", "token_file={mounted}/token"),
    "another authority": Case("asks for a token", r"\bca\b.*sign", "ca={other}/ca.pem token={token}"),
    "no TLS": Case("asks for a token", r"want TLS \(.*\bca\b"),
    "no certificate": Case("asks for a certificate", r"want.*certificate.*\bcert\b.*\bkey\b", CA),
    "another's certificate": Case(
        "asks for a certificate", r"\bcert\b", f"{CA} cert={{other}}/client.pem key={{other}}/client.key"
    ),
    "TLS of a plain server": Case("plain", r"neither tls, ca nor cert", CA),
    "a token in the clear": Case("elsewhere", r"token.*\btls\b.*\bca\b", "token={token}"),
    "a certificate without its key": Case("asks for a token", r"\bcert\b and \bkey\b", f"{CA} cert={{pki}}/client.pem"),
    "a file that is not there": Case("asks for a token", r"(\b|_)ca\b.*nowhere", environment="ca=/nowhere.pem"),
}


@dataclass(frozen=True)
class Servers:
    addresses: dict[str, str]
    names: dict[str, str]


@pytest.fixture(scope="module")
def servers(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """With TLS: one asks for a token, one for a certificate. One without."""
    folder = tmp_path_factory.mktemp("identity")
    pki, other, tokens = Pki(folder / "pki"), Pki(folder / "other"), TokenFile.made(folder / "tokens")
    for one in (pki, other):
        one.renew()
    for name, content in {"token": f"{tokens.token}\n", "empty": "\n", "two": f"{tokens.token}\n" * 2}.items():
        (folder / name).write_text(content)
    tls = ["--listen", "127.0.0.1:0", "--tls-cert", pki.server_pem, "--tls-key", pki.server_key]
    with (
        process(*tls, "--tokens", tokens.path) as (_, token),
        process(*tls, "--tls-client-ca", pki.ca_pem) as (_, certificate),
    ):
        addresses = {
            "asks for a token": token,
            "asks for a certificate": certificate,
            "plain": address,
            "elsewhere": ELSEWHERE,
        }
        names = {"pki": str(pki.folder), "other": str(other.folder), "mounted": str(folder), "token": tokens.token}
        yield Servers(addresses, names)


@pytest.mark.timeout(2000)
@pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.folder)
def test_identity(language: Language, every: bool, proto: Path, servers: Servers) -> None:
    """Of arguments and of the environment: a call and a stream are answered, or a sentence says what to give."""
    language.require(every)
    built = language.make("build", PROTO=str(proto))
    assert built.returncode == 0, built.stdout

    def ask(case: Case) -> tuple[bool, str]:
        named = dict(one.split("=", 1) for one in case.environment.format_map(servers.names).split())
        done = language.make(
            "ask",
            {variable: named.get(name, "") for name, variable in VARIABLES.items()},
            PROTO=str(proto),
            ADDRESS=servers.addresses[case.server],
            ASK=case.given.format_map(servers.names),
        )
        return done.returncode == 0, done.stdout

    with ThreadPoolExecutor(3) as pool:
        said = dict(zip(CASES, pool.map(ask, CASES.values()), strict=True))
    if not every and any("netty with ALPN" in printed for _, printed in said.values()):
        pytest.skip("java: libnetty-tcnative-java is not here")
    wrong = {
        name: said[name]
        for name, case in CASES.items()
        if said[name][0] != (case.told == ANSWERED) or not re.search(case.told, said[name][1], re.IGNORECASE)
    }

    assert wrong == {}
    assert not any(servers.names["token"] in printed for _, printed in said.values())

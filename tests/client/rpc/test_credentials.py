"""What a client shows of itself, and how it knows its server: arguments, else the environment."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import lossd
from lossd.command_line.make_certificates import make_certificates
from lossd.rpc.credentials import PLAIN, VARIABLES, Credentials, credentials
from lossd.rpc.mounted_token import MountedToken

HERE, ELSEWHERE, SOCKET = ("127.0.0.1:1", True), ("lossd.example:1", False), ("unix:/run/lossd", True)
TOKEN = "a-token_1.2~3"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_nothing_given_is_a_plain_connection() -> None:
    """Without a word about it, nothing is shown."""
    assert credentials(*ELSEWHERE) == PLAIN == Credentials()
    assert PLAIN.authorization() == ()


@pytest.mark.parametrize("given", [{"ca": "a"}, {"cert": "c", "key": "k"}, {"tls": True}])
def test_a_ca_or_a_certificate_is_tls(given: dict[str, Any]) -> None:
    """tls need not be said beside them."""
    assert credentials(*ELSEWHERE, **given).tls


def test_what_is_not_given_is_asked_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its variable; an argument comes before it."""
    for name, variable in VARIABLES.items():
        if name != "token_file":
            monkeypatch.setenv(variable, f"{name}-of-environment")

    assert credentials(*ELSEWHERE, ca=Path("given")) == Credentials(
        True, "given", "cert-of-environment", "key-of-environment", "token-of-environment"
    )


def test_either_way_to_give_a_token_stands_before_both_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which do not stand beside each other either."""
    monkeypatch.setenv("LOSSD_TOKEN_FILE", "file-of-environment")

    assert credentials(*HERE) == Credentials(token_file=MountedToken("file-of-environment"))
    assert credentials(*HERE, token=TOKEN) == Credentials(token=TOKEN)
    assert credentials(*HERE, token="") == PLAIN

    monkeypatch.setenv("LOSSD_TOKEN", TOKEN)

    assert credentials(*HERE, token_file=Path("given")) == Credentials(token_file=MountedToken("given"))
    with pytest.raises(lossd.InvalidArgument, match="LOSSD_TOKEN or LOSSD_TOKEN_FILE"):
        credentials(*HERE)


def test_files_of_the_environment_are_not_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket, an embedded server and tls=False have no use for them; the token goes along."""
    monkeypatch.setenv("LOSSD_CA", "ca")
    monkeypatch.setenv("LOSSD_TOKEN", TOKEN)

    assert credentials(*SOCKET) == credentials(*HERE, tls=False) == Credentials(token=TOKEN)
    assert credentials("embedded", True) == Credentials(token=TOKEN)


REFUSED: dict[str, tuple[tuple[str, bool], dict[str, Any]]] = {
    "a token that everybody on the way could read": (ELSEWHERE, {"token": TOKEN}),
    "the same, on purpose": (ELSEWHERE, {"token": TOKEN, "tls": False}),
    "a token with a line end in the middle": (HERE, {"token": "a\nb"}),
    "a token that is no text": (HERE, {"token": b"bytes"}),
    "a token and its file": (HERE, {"token": TOKEN, "token_file": "f"}),
    "the file of a token that everybody could read": (ELSEWHERE, {"token_file": "f"}),
    "a path of a token that is none": (HERE, {"token_file": 7}),
    "a key alone": (HERE, {"key": "k"}),
    "a certificate alone": (HERE, {"cert": "c"}),
    "an authority without TLS": (HERE, {"ca": "a", "tls": False}),
    "an authority for a socket": (SOCKET, {"ca": "a"}),
    "TLS on a socket": (SOCKET, {"tls": True}),
    "an authority for an embedded server": (("embedded", True), {"ca": "a"}),
    "a path that is none": (HERE, {"ca": 7}),
    "a word for tls": (HERE, {"tls": "yes"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_together(what: str) -> None:
    """InvalidArgument that names the argument, and never shows a token."""
    (address, local), given = REFUSED[what]

    with pytest.raises(lossd.InvalidArgument) as caught:
        credentials(address, local, **given)
    assert caught.value.field in {*VARIABLES, "tls"}
    assert caught.value.reason in ("CREDENTIALS_DO_NOT_FIT", "TOKEN_WITHOUT_TLS")
    assert TOKEN not in str(caught.value)


def test_a_token_is_not_shown() -> None:
    """By no repr, of the credentials or of a client."""
    shown = credentials(*HERE, token=f" {TOKEN}\n")

    assert shown.authorization() == (("authorization", f"Bearer {TOKEN}"),)
    with lossd.Client("127.0.0.1:1", token=TOKEN) as client:
        assert TOKEN not in repr(shown) + repr(client)


def test_a_pickled_client_has_its_credentials() -> None:
    """As it has its address."""
    with lossd.Client("127.0.0.1:1", token=TOKEN) as client, pickle.loads(pickle.dumps(client)) as copy:
        assert copy._credentials == client._credentials


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_files_that_hold_something_else(name: str, tmp_path: Path) -> None:
    """InvalidArgument names argument and file, before anything is connected: missing, a folder, or not PEM."""
    make_certificates(tmp_path, [], "client", days=1)
    right = {"ca": tmp_path / "ca.pem", "cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
    swapped = tmp_path / ("client.pem" if name == "key" else "client.key")
    for wrong in (tmp_path / "missing.pem", tmp_path, swapped):
        given: dict[str, Any] = {**right, name: wrong}
        with lossd.Client("127.0.0.1:1", **given) as client:
            with pytest.raises(lossd.InvalidArgument, match=wrong.name) as caught:
                client.info(timeout=0.1)
            assert (caught.value.field, caught.value.reason) == (name, "UNREADABLE_FILE")

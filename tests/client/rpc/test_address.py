"""Addresses: which are taken, as what, and what is said of all others."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.rpc import address
from lossd.rpc.address import LONGEST_PATH, UNSET, chosen

TAKEN = {
    "127.0.0.1:50051": "127.0.0.1:50051",
    "localhost": "localhost:50051",
    "losses.example.": "losses.example.:50051",
    "my_server-2:00080": "my_server-2:80",
    "10.0.0.1": "10.0.0.1:50051",
    "[::1]": "[::1]:50051",
    "[::1]:7": "[::1]:7",
    "[fe80::1%eth0]:7": "[fe80::1%eth0]:7",
    "dns:///losses.example": "dns:///losses.example:50051",
    "dns:///losses.example:7": "dns:///losses.example:7",
    "ray://head": "ray://head:8000",
    "ray://head:9000/": "ray://head:9000",
    "ray://[::1]:9000/gpu/losses/": "ray://[::1]:9000/gpu/losses",
    "a:1,b": "a:1,b:50051",
    "127.0.0.1:1,[::1]:2,a:03": "127.0.0.1:1,[::1]:2,a:3",
    "a:1,a:01": "a:1",
    "unix:/tmp/x": "unix:/tmp/x",
    "unix:///tmp/x": "unix:/tmp/x",
    "unix:x.socket": "unix:x.socket",
    "unix:/tmp/a b": "unix:/tmp/a b",
    "embedded": "embedded",
    f"unix:/{'x' * (LONGEST_PATH - 1)}": f"unix:/{'x' * (LONGEST_PATH - 1)}",
}
# What is given, and what is likely meant, "" where nothing is.
REFUSED: list[tuple[Any, str]] = [
    ("", ""),
    (" ", ""),
    ("\n", ""),
    (None, ""),
    (50051, ""),
    (True, ""),
    (("a", 1), ""),
    (b"127.0.0.1:1", "127.0.0.1:1"),
    (b"\xff:1", ""),
    (pathlib.Path("/tmp/x"), "unix:/tmp/x"),
    ("127.0.0.1 :50051", "127.0.0.1:50051"),
    ("127.0.0.1:50051\n", "127.0.0.1:50051"),
    ("host\u00a0:1", "host:1"),
    ("ho\x00st:1", ""),
    ("::1", "[::1]:50051"),
    ("::1:50051", "[::1]:50051"),
    ("::1:5051", "[::1]:5051 or [::1:5051]:50051"),
    ("[::1]:", "[::1]:50051"),
    ("[::1", ""),
    ("[1.2.3.4]:5", ""),
    ("host:", "host:50051"),
    (":50051", "127.0.0.1:50051"),
    ("50051", "127.0.0.1:50051"),
    ("host:0", ""),
    ("host:99999", ""),
    ("host:-1", "host:50051"),
    ("host:http", "host:50051"),
    ("host:５", "host:50051"),
    ("host:1_0", "host:50051"),
    ("256.1.1.1:5", ""),
    ("user@host:1", ""),
    ("*:5", ""),
    ("a..b:1", ""),
    (f"{'a' * 64}:1", ""),
    (f"{'a.' * 130}a:1", ""),
    ("höst:1", ""),
    ("http://host:1", "host:1"),
    ("https://host/path", "host"),
    ("dns:///", ""),
    ("dns:host:1", "dns:///host:1"),
    ("dns://8.8.8.8/host:1", "dns:///host:1"),
    ("dns:///host:", "dns:///host:50051"),
    ("ray://", ""),
    ("ray://head:", "ray://head:8000"),
    ("ray://head:1/a?b", "ray://head:1"),
    ("ray://head//a", "ray://head:8000"),
    ("ray://a:1,b:2", ""),
    ("a:1,ray://b:2", "b:2"),
    ("ipv4:127.0.0.1:5", "127.0.0.1:5"),
    ("a:1,,b:2", "a:1,b:2"),
    (",", ""),
    ("a:1, b:2", "a:1,b:2"),
    ("a:1,unix:/tmp/x", ""),
    ("a:1,dns:///b:2", ""),
    ("a:1,embedded:0", ""),
    ("a:1,::1", ""),
    ("/tmp/x", "unix:/tmp/x"),
    ("unix:", ""),
    ("unix:///", ""),
    ("unix://tmp/x", "unix:/tmp/x"),
    ("unix:/tmp/x\n", "unix:/tmp/x"),
    ("unix:/tmp/x?", ""),
    ("unix:/tmp/\ud800", ""),
    (f"unix:/{'x' * LONGEST_PATH}", ""),
    (f"unix:/{'ä' * (LONGEST_PATH // 2 + 1)}", ""),
    ("Embedded", "embedded"),
    (" embedded ", "embedded"),
]
CLIENTS = (lossd.Client, lossd.aio.Client)


@pytest.mark.parametrize("given", TAKEN)
def test_an_address_is_taken(given: str) -> None:
    """As gRPC takes it: with a port, with one slash before a path."""
    assert chosen(given) == TAKEN[given]
    assert chosen(np.str_(given)) == TAKEN[given]
    assert chosen(TAKEN[given]) == TAKEN[given]


@pytest.mark.parametrize("given, likely", REFUSED, ids=lambda one: ascii(one)[:30])
@pytest.mark.parametrize("client", CLIENTS)
def test_any_other_is_refused_in_one_line(client: Any, given: Any, likely: str) -> None:
    """When the client is made: what was given, what is the matter, what was likely meant, what there is."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        client(given)

    said = str(caught.value)
    assert said.startswith("address = ")
    assert said.endswith(f" An address is {address.FORMS}")
    assert (f"; did you mean {likely}? " in said) if likely else ("did you mean" not in said)
    assert (caught.value.field, caught.value.metadata["likely"]) == ("address", likely)
    assert "\n" not in said
    assert all(chosen(one) for one in likely.split(" or ") if one)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "variable, expected",
    [(None, "127.0.0.1:50051"), ("", "127.0.0.1:50051"), ("losses.example", "losses.example:50051")],
)
def test_a_client_without_an_address_asks_the_environment(
    monkeypatch: pytest.MonkeyPatch, client: Any, variable: str | None, expected: str
) -> None:
    """LOSSD_SERVER; what is not set, or to nothing, is the server that `lossd serve` starts."""
    monkeypatch.delenv(address.ENVIRONMENT, raising=False)
    if variable is not None:
        monkeypatch.setenv(address.ENVIRONMENT, variable)

    assert expected in repr(client())
    assert expected in repr(client(timeout=1))


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gave no address: the sentence says where it stands."""
    monkeypatch.setenv(address.ENVIRONMENT, "http://host:1")

    with pytest.raises(lossd.InvalidArgument, match=r"^LOSSD_SERVER = 'http://host:1' .*did you mean host:1\?"):
        lossd.Client()


def test_help_says_what_an_absent_address_means() -> None:
    """In the signature itself."""
    assert repr(UNSET) == "LOSSD_SERVER, or 127.0.0.1:50051"

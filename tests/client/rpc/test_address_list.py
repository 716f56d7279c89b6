"""Address lists: what gRPC is given for several servers."""

from __future__ import annotations

import pytest

from lossd.rpc.address_list import all_looked_up, by_host, looked_up, names_in, target_of

KNOWN = {"four": ["10.0.0.1", "10.0.0.2"], "six": ["fd00::1"]}


@pytest.mark.parametrize(
    "addresses, expected",
    [
        (["127.0.0.1:1", "127.0.0.2:2"], "ipv4:127.0.0.1:1,127.0.0.2:2"),
        (["[::1]:1", "[fd00::2]:2"], "ipv6:[::1]:1,[fd00::2]:2"),
        (["127.0.0.1:1", "[::1]:2"], "ipv6:[::ffff:127.0.0.1]:1,[::1]:2"),
        (["four:1", "127.0.0.1:2"], "ipv4:10.0.0.1:1,10.0.0.2:1,127.0.0.1:2"),
        (["four:1", "10.0.0.1:1"], "ipv4:10.0.0.1:1,10.0.0.2:1"),
        (["six:1", "four:2"], "ipv6:[fd00::1]:1,[::ffff:10.0.0.1]:2,[::ffff:10.0.0.2]:2"),
        (["none:1", "four:2"], "ipv4:10.0.0.1:2,10.0.0.2:2"),
        (["none:1", "nor:2"], "dns:///none:1"),
    ],
)
def test_a_list_is_one_target_of_numbers(addresses: list[str], expected: str) -> None:
    """Of one kind; hosts that are not found are left out, and where none is, gRPC says so."""
    assert target_of(addresses, lambda host: KNOWN.get(host, [])) == expected


def test_the_system_is_asked_for_hosts() -> None:
    """By the hosts file, or whatever else the system asks; what is not found is no error."""
    assert {"127.0.0.1", "::1"} & set(looked_up("localhost"))
    assert looked_up("no.such.host.invalid") == []


def test_addresses_by_host() -> None:
    """In their order."""
    assert by_host(["a:1", "[::1]:2", "a:3"]) == {"a": ["a:1", "a:3"], "::1": ["[::1]:2"]}


@pytest.mark.parametrize(
    "address, names",
    [("a:1,10.0.0.1:2,b:3,a:4", ["a", "b"]), ("[::1]:1,127.0.0.1:2", []), ("a:1", []), ("dns:///a:1", [])],
)
def test_names_that_the_client_looks_up(address: str, names: list[str]) -> None:
    """Those of lists: gRPC looks up all others."""
    assert names_in(address) == names
    assert list(all_looked_up(["no.such.host.invalid"])) == ["no.such.host.invalid"]

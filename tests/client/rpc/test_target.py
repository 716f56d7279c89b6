"""Addresses and channel arguments."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import lossd
from lossd.rpc import target as channel
from lossd_server.config.settings import Settings
from lossd_server.front.grpcio import channel_options


@pytest.mark.parametrize(
    "address, local",
    [
        ("127.0.0.1:50051", True),
        ("localhost:1", True),
        ("[::1]:50051", True),
        ("unix:/tmp/x", True),
        ("unix:x.socket", True),
        ("10.0.0.1:50051", False),
        ("losses.example:50051", False),
        ("dns:///losses.example:50051", False),
    ],
)
def test_an_address_says_whether_it_is_local(address: str, local: bool) -> None:
    """Only there is a proxy ruled out."""
    target = channel.target(address)

    assert target.local is local
    assert (("grpc.enable_http_proxy", 0) in target.arguments(1)) is local


@pytest.mark.parametrize("address", ["", "localhost", "http://localhost:50051", "host:", ":1", "host:99999", "unix:"])
def test_what_is_no_address_is_refused_in_a_sentence(address: str) -> None:
    """At once, naming the value."""
    with pytest.raises(lossd.InvalidArgument, match="address = ") as caught:
        lossd.Client(address)

    assert caught.value.field == "address"


def test_dns_addresses_are_balanced() -> None:
    """Round robin over what the name resolves to."""
    assert ("grpc.lb_policy_name", "round_robin") in channel.target("dns:///a:1").arguments(1)
    assert ("grpc.lb_policy_name", "round_robin") not in channel.target("a:1").arguments(1)


def test_core_knows_every_argument() -> None:
    """Misspelt names are ignored in silence: each must occur in grpc's own binary."""
    binary = Path(import_module("grpc._cython.cygrpc").__file__ or "").read_bytes()
    arguments = channel.target("127.0.0.1:1").arguments(1) + channel.target("dns:///a:1").arguments(1)

    assert [name for name, _ in arguments if name.encode() not in binary] == []


def test_keepalive_is_not_faster_than_the_server_allows() -> None:
    """Or it would answer GOAWAY too_many_pings."""
    allowed_ms = dict(channel_options.arguments(Settings()))["grpc.http2.min_ping_interval_without_data_ms"]

    assert int(allowed_ms) <= channel.KEEPALIVE_MS

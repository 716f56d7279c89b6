"""Addresses and channel arguments."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

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
        ("dns:///localhost", True),
        ("10.0.0.1:50051", False),
        ("losses.example:50051", False),
        ("dns:///losses.example:50051", False),
        ("ray://127.0.0.1:8000", False),
        ("127.0.0.1:1,[::1]:2,localhost:3", True),
        ("127.0.0.1:1,10.0.0.1:2", False),
    ],
)
def test_an_address_says_whether_it_is_local(address: str, local: bool) -> None:
    """Only there is a proxy ruled out."""
    target = channel.target(address)

    assert target.local is local
    assert (("grpc.enable_http_proxy", 0) in target.arguments(1)) is local


@pytest.mark.parametrize("most", [0, -1, 2**31, 1e9, True, "1", None])
def test_max_response_bytes_is_what_a_channel_can_say(most: Any) -> None:
    """A whole number that fits a C int; anything else names the option."""
    with pytest.raises(lossd.InvalidArgument, match="max_response_bytes must be a whole number from 1 to 2147483647"):
        lossd.Client("127.0.0.1:1", max_response_bytes=most)


@pytest.mark.parametrize("seconds, ms", [(1e-9, 1_000), (2.0, 1_600), (5.0, 4_000), (1e9, 20_000)])
def test_core_gives_up_connecting_before_the_client_does(seconds: float, ms: int) -> None:
    """It knows what is the matter. A loaded server has a second at least, and core's own end stays the last."""
    arguments = channel.target("127.0.0.1:1", seconds).arguments(1)

    assert ("grpc.min_reconnect_backoff_ms", ms) in arguments


@pytest.mark.parametrize("address", ["dns:///a:1", "a:1,b:2"])
def test_several_servers_are_balanced(address: str) -> None:
    """By what they tell of their load, or in turn where gRPC knows no such policy."""
    (config,) = [value for name, value in channel.target(address).arguments(1) if name == "grpc.service_config"]
    policies = json.loads(str(config))["loadBalancingConfig"]

    assert [list(policy) for policy in policies] == [["weighted_round_robin"], ["round_robin"]]
    assert ("grpc.service_config", config) not in channel.target("a:1").arguments(1)


def test_core_knows_every_argument() -> None:
    """Misspelt names are ignored in silence: each must occur in grpc's own binary."""
    binary = Path(import_module("grpc._cython.cygrpc").__file__ or "").read_bytes()
    arguments = channel.target("127.0.0.1:1").arguments(1) + channel.target("dns:///a:1").arguments(1)

    assert [name for name, _ in arguments if name.encode() not in binary] == []


def test_keepalive_is_not_faster_than_the_server_allows() -> None:
    """Or it would answer GOAWAY too_many_pings."""
    allowed_ms = dict(channel_options.arguments(Settings()))["grpc.http2.min_ping_interval_without_data_ms"]

    assert int(allowed_ms) <= channel.KEEPALIVE_MS

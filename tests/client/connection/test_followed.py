"""Followed servers: which channel a call begins on, and when one is closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import lossd
from lossd.connection.followed import Followed


class Servers:
    """Opens channels, which are the lists that they are to, and keeps which were closed."""

    def __init__(self) -> None:
        self.now: Sequence[str] = ("a:1",)
        self.closed: list[Any] = []
        self.refuses = False
        self.followed = Followed(lambda: self.now, self.open, self.closed.append)

    def open(self, servers: Sequence[str]) -> Any:
        if self.refuses:
            raise lossd.InvalidArgument("no such file")
        return list(servers)


def test_a_new_list_has_a_new_channel() -> None:
    """For calls that begin; the old one is closed with the end of its last call."""
    servers = Servers()
    first, second = servers.followed.begin(), servers.followed.begin()
    assert first is second
    servers.now = ("a:1", "b:1")
    third = servers.followed.begin()

    assert (first.channel, third.channel) == (["a:1"], ["a:1", "b:1"])
    assert servers.followed.newest is third.channel
    servers.followed.end(first)
    assert servers.closed == []
    servers.followed.end(second)
    assert servers.closed == [["a:1"]]
    servers.followed.end(third)
    assert servers.closed == [["a:1"]]


def test_one_without_calls_is_closed_at_once() -> None:
    """When the next call begins elsewhere."""
    servers = Servers()
    servers.followed.end(servers.followed.begin())
    servers.now = ("b:1",)
    servers.followed.begin()

    assert servers.closed == [["a:1"]]


def test_a_channel_that_cannot_be_opened() -> None:
    """The first one is the caller's to hear of; later the one before goes on."""
    servers = Servers()
    servers.refuses = True
    with pytest.raises(lossd.InvalidArgument):
        servers.followed.begin()
    servers.refuses = False
    first = servers.followed.begin()
    servers.now, servers.refuses = ("b:1",), True

    assert servers.followed.begin() is first


def test_after_the_end_no_call_begins() -> None:
    """Whoever closes it has what is left; a call that ends later closes nothing again."""
    servers = Servers()
    first = servers.followed.begin()
    servers.now = ("b:1",)
    servers.followed.begin()

    assert servers.followed.close() == [["a:1"], ["b:1"]]
    servers.followed.end(first)
    assert servers.closed == []
    with pytest.raises(ValueError, match="closed"):
        servers.followed.begin()

"""Regions and connections are shared between the processes of clients."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lossd.shared_memory import socket_protocol
from lossd_server.shared_memory.mapped_region import NotTaken
from lossd_server.shared_memory.peer_process import no_place, process_of
from lossd_server.shared_memory.region_shares import MAX_REGIONS, RegionShares, regions_in_all


def filled(shares: RegionShares, process: int) -> int:
    """Regions that a process gets."""
    for count in range(10_000):
        try:
            shares.require(process)
        except NotTaken as refusal:
            assert refusal.reason == socket_protocol.FULL
            return count
        shares.add(process)
    raise AssertionError


def test_a_process_leaves_regions_to_others() -> None:
    """However many it asks for, and the next one too."""
    shares = RegionShares(100)
    counts = [filled(shares, process) for process in range(4)]

    assert counts == [76, 19, 4, 1]


def test_a_process_has_its_own_bound() -> None:
    """Where there are more than enough."""
    assert filled(RegionShares(10_000), 1) == MAX_REGIONS


def test_what_ends_can_be_had_again() -> None:
    """By whoever asks first."""
    shares = RegionShares(1)
    shares.add("one")
    with pytest.raises(NotTaken, match="there are 1, of at most 1, 0 of them of this process"):
        shares.require("other")
    shares.remove("one")

    shares.require("other")


def test_descriptors_are_left_for_connections() -> None:
    """Regions have a quarter of those that this process may have."""
    assert regions_in_all() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4


def test_a_process_leaves_connections_to_others() -> None:
    """Three quarters are its own at most; one that has none has one while there is any."""
    taken: list[int] = []
    while not no_place(1, taken, 100):
        taken.append(1)

    assert len(taken) == 76
    assert "76 are of this process" in no_place(1, taken, 100)
    assert not no_place(2, taken, 100)
    assert no_place(2, [*range(100, 200)], 100)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        yield stack.enter_context(one), stack.enter_context(other)


def test_connections_of_one_process_are_told(pair: tuple[socket.socket, socket.socket]) -> None:
    """By the kernel: a client cannot say that it is another."""
    assert process_of(pair[0]) == process_of(pair[1]) == os.getpid()

"""A backend whose device copies from shared memory is told of every region, from its beginning to its end."""

from __future__ import annotations

import threading

from lossd.shared_memory import socket_protocol
from tests.server.shared_memory.listening import against
from tests.server.shared_memory.memfds import PAGE, connected
from tests.waiting import WAIT_S


class Pins:
    """Remembers what it is told; refuses regions of three pages."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.held: dict[int, int] = {}
        self.empty = threading.Event()

    def pin(self, address: int, size: int) -> None:
        self.said.append(("pin", size))
        if size == 3 * PAGE:
            raise RuntimeError("no more memory can be pinned")
        self.held[address] = size

    def unpin(self, address: int) -> None:
        self.said.append(("unpin", self.held.pop(address, 0)))
        if not self.held:
            self.empty.set()


def test_regions_are_pinned_from_beginning_to_end() -> None:
    """Each is registered once and let go once, at its client's word or with its connection."""
    pins = Pins()

    def talk(path: str) -> None:
        with connected(path) as peer:
            peer.socket.send(socket_protocol.end_region(peer.give(PAGE)))
            assert pins.empty.wait(WAIT_S)
            pins.empty.clear()
            peer.give(2 * PAGE)
        assert pins.empty.wait(WAIT_S)

    against(talk, pinning=pins)

    assert pins.said == [("pin", PAGE), ("unpin", PAGE), ("pin", 2 * PAGE), ("unpin", 2 * PAGE)]


def test_a_region_that_cannot_be_pinned_is_taken() -> None:
    """All the same; what follows is pinned."""
    pins = Pins()

    def talk(path: str) -> None:
        with connected(path) as peer:
            assert peer.give(3 * PAGE)
            assert peer.give(PAGE)
        assert pins.empty.wait(WAIT_S)

    assert against(talk, pinning=pins) == 0
    assert pins.said[:2] == [("pin", 3 * PAGE), ("pin", PAGE)]
    assert ("unpin", PAGE) in pins.said

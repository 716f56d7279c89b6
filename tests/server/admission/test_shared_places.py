"""Shared places: whose call has to go where all are taken."""

from __future__ import annotations

import pytest

from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.call.identity import Sharer
from lossd_server.errors import Overloaded

MOST = 6


class Hall:
    """Six places; calls are numbers."""

    def __init__(self) -> None:
        self.places = SharedPlaces(MOST, "tests")
        self.of: dict[int, str] = {}
        self._next = 0

    def enter(self, name: str) -> int:
        """The call that took a place. name: of a caller, and of its connection. Raises Overloaded."""
        call, self._next = self._next, self._next + 1
        self.places.enter(sharer(name), call, lambda _: self.of.pop(call))
        self.of[call] = name
        return call

    def leave(self, call: int) -> None:
        self.places.leave(sharer(self.of.pop(call)), call)

    def count(self, name: str) -> int:
        return sum(one.startswith(name) for one in self.of.values())


def sharer(name: str) -> Sharer:
    return Sharer(name[0], name)


def test_alone_a_connection_has_every_place() -> None:
    """And no more than there are."""
    hall = Hall()
    for _ in range(MOST):
        hall.enter("a")

    with pytest.raises(Overloaded, match="the server has 6 tests") as caught:
        hall.enter("a")
    assert caught.value.retry_after_s
    assert hall.count("a") == MOST


def test_the_newest_of_the_greediest_makes_room() -> None:
    """Until each connection has as many as the others; then who asks for more is refused."""
    hall = Hall()
    first = [hall.enter("a") for _ in range(MOST)]
    for _ in range(3):
        hall.enter("b")

    assert [hall.count(one) for one in "ab"] == [3, 3]
    assert [call in hall.of for call in first] == [True, True, True, False, False, False]
    for connection in "ab":
        with pytest.raises(Overloaded):
            hall.enter(connection)
    hall.enter("c")
    hall.enter("c")
    assert [hall.count(one) for one in "abc"] == [2, 2, 2]


def test_what_is_given_back_is_free_again() -> None:
    """Once, however often it is said: also of a call that had to go."""
    hall = Hall()
    calls = [hall.enter("a") for _ in range(MOST)]
    hall.enter("b")
    hall.places.leave(sharer("a"), calls[-1])
    hall.leave(calls[0])
    hall.places.leave(sharer("a"), calls[0])
    hall.enter("c")

    assert len(hall.of) == MOST
    with pytest.raises(Overloaded):
        hall.enter("a")


def test_a_caller_has_one_share_whatever_its_connections() -> None:
    """Another has as many places as all of them together, and within them its connections share alike."""
    hall = Hall()
    for connection in ("a1", "a1", "a1", "a2", "a3", "a4"):
        hall.enter(connection)
    for _ in range(3):
        hall.enter("b")
    with pytest.raises(Overloaded):
        hall.enter("b")

    assert [hall.count(one) for one in ("a", "b")] == [3, 3]
    with pytest.raises(Overloaded):
        hall.enter("a5")


def test_connections_of_one_caller_share_its_places() -> None:
    """The newest of the one that has most makes room, though its caller is alone."""
    hall = Hall()
    for _ in range(MOST):
        hall.enter("a1")
    hall.enter("a2")

    assert [hall.count(one) for one in ("a1", "a2")] == [5, 1]

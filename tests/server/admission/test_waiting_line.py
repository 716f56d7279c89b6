"""The waiting line: who is let in, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.admission.waiting_line import WaitingLine
from lossd_server.errors import Overloaded


class Room:
    """So many units, of which those who enter take some."""

    def __init__(self, units: int, places: SharedPlaces | None = None) -> None:
        self.units = units
        self.line = WaitingLine(places)
        self.entered: list[str] = []

    def take(self, name: str, units: int) -> int | None:
        if units > self.units:
            return None
        self.units -= units
        self.entered.append(name)
        return units

    def give(self, units: int) -> None:
        self.units += units
        self.line.wake()

    def enter(self, name: str, units: int = 1) -> asyncio.Task[int]:
        """The first letter of its name is its connection's."""
        entering = self.line.enter(lambda: self.take(name, units), self.give, name[0], units)
        return asyncio.ensure_future(entering)


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 30.0))


async def settle() -> None:
    """Lets everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_nobody_waits_while_there_is_room() -> None:
    """Who comes to an empty line gets what there is at once."""

    async def body() -> None:
        room = Room(1)

        assert await room.line.enter(lambda: room.take("a", 1), room.give) == 1
        assert len(room.line) == 0

    run(body)


def test_the_order_is_that_of_arrival() -> None:
    """The first in line is served first, however often it was looked for room before."""

    async def body() -> None:
        room = Room(0)
        waiting = [room.enter(name, 2) for name in "abc"]
        await settle()
        for _ in range(6):  # every other time there is not enough for anybody
            room.give(1)
            await settle()

        assert room.entered == ["a", "b", "c"]
        assert [await one for one in waiting] == [2, 2, 2]

    run(body)


def test_connections_take_turns() -> None:
    """Each has one of its calls let in, then the next has; its own calls keep their order."""

    async def body() -> None:
        room = Room(0)
        waiting = [room.enter(name) for name in ("a1", "a2", "a3", "b1", "b2", "c1")]
        await settle()
        for _ in waiting:
            room.give(1)
            await settle()

        assert room.entered == ["a1", "b1", "c1", "a2", "b2", "a3"]
        assert len(room.line) == 0

    run(body)


def test_who_is_preferred_has_the_next_turn() -> None:
    """The order is kept otherwise; who does not wait is passed over."""

    async def body() -> None:
        room = Room(0)
        for name in ("a1", "a2", "b1", "c1"):
            room.enter(name)
        await settle()
        assert list(room.line.first()) == [("a", 1), ("b", 1), ("c", 1)]
        room.line.prefer(["c", "nobody"])
        room.give(4)
        await settle()

        assert room.entered == ["c1", "a1", "b1", "a2"]

    run(body)


def test_places_in_the_line_are_shared() -> None:
    """Where all are taken, the newest of the connection that has most leaves it for another's."""

    async def body() -> None:
        room = Room(0, SharedPlaces(3, "tests"))
        first, second, third = (room.enter(name) for name in ("a1", "a2", "a3"))
        await settle()
        with pytest.raises(Overloaded):
            await room.enter("a4")
        other = room.enter("b1")
        with pytest.raises(Overloaded):
            await third
        room.give(3)

        assert [await one for one in (first, second, other)] == [1, 1, 1]

    run(body)


def test_small_ones_do_not_overtake() -> None:
    """While one waits for much, those after it wait too, though there is room for them."""

    async def body() -> None:
        room = Room(1)
        large = room.enter("large", 3)
        await settle()
        small = room.enter("small", 1)
        await settle()
        assert room.entered == []
        room.give(2)
        await large
        room.give(3)
        await small

        assert room.entered == ["large", "small"]

    run(body)


def test_who_gives_up_is_passed_over() -> None:
    """The next in line does not wait for somebody who has gone."""

    async def body() -> None:
        room = Room(1)
        first, second = room.enter("first", 2), room.enter("second", 1)
        await settle()
        first.cancel()
        await settle()

        assert await second == 1
        assert room.entered == ["second"]
        assert len(room.line) == 0

    run(body)


def test_what_was_taken_for_somebody_who_has_gone_is_given_back() -> None:
    """A turn that comes in the moment of a cancellation leaves nothing taken."""

    async def body() -> None:
        room = Room(0)
        first, second = room.enter("first"), room.enter("second")
        await settle()
        room.give(1)  # the turn of the first, which has not run on yet
        first.cancel()
        await settle()

        assert first.cancelled()
        assert await second == 1
        assert room.units == 0

    run(body)


def test_a_refusal_is_raised_to_who_waits_and_to_nobody_else() -> None:
    """An error of one's own turn does not hold up the line."""

    async def body() -> None:
        room = Room(0)
        refused = False

        def take() -> int | None:
            if refused:
                raise ValueError("no use to wait")
            return None

        first = asyncio.ensure_future(room.line.enter(take, room.give))
        second = room.enter("second")
        await settle()
        refused = True
        room.give(1)

        with pytest.raises(ValueError, match="no use to wait"):
            await first
        assert await second == 1

    run(body)

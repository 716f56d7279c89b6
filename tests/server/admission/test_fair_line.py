"""Who waits for room is let in by what its connection holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from lossd_server.admission.fair_line import FairLine
from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.call.identity import Sharer
from lossd_server.errors import Overloaded


@dataclass
class Room:
    """Bytes to be taken, and who took them."""

    free: int = 0
    free_of_little: int = 0
    came: list[str] = field(default_factory=list)


@dataclass
class Asks:
    """Takes `size` bytes."""

    room: Room
    name: str
    sharer: Sharer
    size: int = 1
    error: Exception | None = None
    is_held_back: bool = False

    def take(self) -> str | None:
        if self.error is not None:
            raise self.error
        if self.room.free < self.size:
            return None
        self.room.free -= self.size
        return self._came()

    def take_little(self) -> str | None:
        if not self.room.free_of_little:
            return None
        self.room.free_of_little -= 1
        return self._came()

    def _came(self) -> str:
        self.room.came.append(self.name)
        return self.name


async def waiting(line: FairLine[str], *asked: Asks) -> list[asyncio.Task[str]]:
    tasks = [asyncio.ensure_future(line.enter(one.sharer, one, lambda _: None)) for one in asked]
    await asyncio.sleep(0)
    return tasks


def test_connections_take_turns_by_bytes() -> None:
    """However many messages of one came before; those of one connection keep their order."""

    async def run() -> None:
        line, room, greedy, modest = FairLine[str](), Room(), Sharer("a"), Sharer("b")
        tasks = await waiting(line, *(Asks(room, f"greedy {n}", greedy, 2) for n in range(3)))
        tasks += await waiting(line, *(Asks(room, f"modest {n}", modest) for n in range(4)))
        room.free = 10
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == [
            "modest 0",
            "greedy 0",
            "modest 1",
            "modest 2",
            "greedy 1",
            "modest 3",
            "greedy 2",
        ]
        assert not line

    asyncio.run(run())


def test_who_asks_for_much_is_not_passed_for_ever() -> None:
    """However many small messages keep coming: once those had as much, nobody passes it."""

    async def run() -> None:
        line, room, large, small = FairLine[str](), Room(), Sharer("a"), Sharer("b")
        tasks = await waiting(line, Asks(room, "large", large, 10))
        for number in range(20):
            tasks += await waiting(line, Asks(room, f"small {number}", small))
            room.free += 1
            line.wake()
        room.free += 10
        line.wake()
        await asyncio.gather(*tasks)

        assert 9 <= room.came.index("large") <= 10

    asyncio.run(run())


def test_who_comes_later_is_not_ahead_by_what_others_had() -> None:
    """A connection that did not wait before begins where the others stand."""

    async def run() -> None:
        line, room, old, new = FairLine[str](), Room(), Sharer("a"), Sharer("b")
        tasks = await waiting(line, *(Asks(room, f"old {n}", old) for n in range(6)))
        room.free = 4
        line.wake()
        tasks += await waiting(line, *(Asks(room, f"new {n}", new) for n in range(4)))
        room.free = 6
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came[4:8] == ["old 4", "new 0", "old 5", "new 1"]

    asyncio.run(run())


def test_nobody_passes_those_who_wait() -> None:
    """Except for what is kept for those that hold little, which needs no turn."""

    async def run() -> None:
        line, room, first, second = FairLine[str](), Room(), Sharer("a"), Sharer("b")
        tasks = await waiting(line, Asks(room, "first", first), Asks(room, "little", second))
        room.free = 1
        assert line.at_once(Asks(room, "third", second)) is None
        room.free_of_little = 1
        assert line.at_once(Asks(room, "fourth", second)) == "fourth"
        line.wake()
        room.free_of_little = 1
        line.wake_little()
        await asyncio.gather(*tasks)

        assert room.came == ["fourth", "first", "little"]

    asyncio.run(run())


def test_who_gives_up_holds_nobody_up() -> None:
    """Its place in the line is gone, and what it took in that moment is given back."""

    async def run() -> None:
        line, room, connection, other = FairLine[str](), Room(), Sharer("a"), Sharer("b")
        given: list[str] = []
        gone = asyncio.ensure_future(line.enter(connection, Asks(room, "gone", connection), given.append))
        (waits,) = await waiting(line, Asks(room, "waits", other))
        room.free = 1
        line.wake()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        room.free = 1
        line.wake()

        assert await waits == "waits"
        assert given == ["gone"]

    asyncio.run(run())


def test_what_taking_raises_reaches_who_waits() -> None:
    """And the next one is let in."""

    async def run() -> None:
        line, room, connection = FairLine[str](), Room(), Sharer("a")
        fails, waits = await waiting(
            line, Asks(room, "fails", connection, error=MemoryError()), Asks(room, "waits", connection)
        )
        room.free = 1
        line.wake()

        with pytest.raises(MemoryError):
            await fails
        assert await waits == "waits"

    asyncio.run(run())


def test_who_has_all_that_it_may_is_passed() -> None:
    """Nobody waits behind a caller that its own limit holds back; it comes next once that is over."""

    async def run() -> None:
        line, room = FairLine[str](), Room(free=1)
        held_back = Asks(room, "held back", Sharer("a"), is_held_back=True)
        tasks = await waiting(line, held_back, Asks(room, "its next", Sharer("a")), Asks(room, "other", Sharer("b")))
        assert room.came == ["other"]
        held_back.is_held_back = False
        room.free = 2
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == ["other", "held back", "its next"]

    asyncio.run(run())


def test_who_is_preferred_has_the_next_turn() -> None:
    """The order is kept otherwise; who does not wait is passed over."""

    async def run() -> None:
        line, room = FairLine[str](), Room()
        asked = [Asks(room, name, Sharer(name[0], name[1])) for name in ("a1", "a1 again", "b1", "c1", "c2")]
        tasks = await waiting(line, *asked)
        firsts = [(Sharer("a", "1"), 1), (Sharer("b", "1"), 1), (Sharer("c", "1"), 1), (Sharer("c", "2"), 1)]
        assert list(line.first_of_each()) == firsts
        line.prefer([Sharer("c", "2"), Sharer("nobody")])
        room.free = 5
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == ["c2", "a1", "b1", "c1", "a1 again"]

    asyncio.run(run())


def test_places_in_the_line_are_shared() -> None:
    """Where all are taken, the newest of the caller that has most leaves it for another's."""

    async def run() -> None:
        line, room = FairLine[str](SharedPlaces(3, "tests")), Room()
        first, second, third = await waiting(line, *(Asks(room, f"a{n}", Sharer("a")) for n in range(3)))
        with pytest.raises(Overloaded):
            await line.enter(Sharer("a"), Asks(room, "a3", Sharer("a")), lambda _: None)
        (other,) = await waiting(line, Asks(room, "b0", Sharer("b")))
        with pytest.raises(Overloaded):
            await third
        room.free = 3
        line.wake()

        assert [await one for one in (first, second, other)] == ["a0", "a1", "b0"]

    asyncio.run(run())


def test_small_ones_do_not_overtake_on_one_connection() -> None:
    """While one waits for much, those after it wait too, though there is room for them."""

    async def run() -> None:
        line, room, sharer = FairLine[str](), Room(free=1), Sharer("a")
        tasks = await waiting(line, Asks(room, "large", sharer, 3), Asks(room, "small", sharer))
        assert room.came == []
        room.free = 4
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == ["large", "small"]

    asyncio.run(run())


def test_who_has_given_up_hides_nobody() -> None:
    """What its connection waits for next is asked for instead."""

    async def run() -> None:
        line, room, sharer = FairLine[str](), Room(), Sharer("a")
        first = await waiting(line, Asks(room, "first", Sharer("b")))
        gone, second = await waiting(line, Asks(room, "gone", sharer, 5), Asks(room, "second", sharer, 3))
        gone.cancel()
        await asyncio.sleep(0)
        assert list(line.first_of_each()) == [(Sharer("b"), 1), (sharer, 3)]
        room.free = 4
        line.wake()

        assert [await one for one in (*first, second)] == ["first", "second"]

    asyncio.run(run())

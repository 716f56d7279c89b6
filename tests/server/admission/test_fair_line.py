"""Who waits for room is let in by what its connection holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from lossd_server.admission.fair_line import FairLine


@dataclass(eq=False)
class Connection:
    tag: int = 0


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
    connection: Connection
    size: int = 1
    error: Exception | None = None

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
    tasks = [asyncio.ensure_future(line.enter(one.connection, one, lambda _: None)) for one in asked]
    await asyncio.sleep(0)
    return tasks


def test_connections_take_turns_by_bytes() -> None:
    """However many messages of one came before; those of one connection keep their order."""

    async def run() -> None:
        line, room, greedy, modest = FairLine[str](), Room(), Connection(), Connection()
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
        line, room, large, small = FairLine[str](), Room(), Connection(), Connection()
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
        line, room, old, new = FairLine[str](), Room(), Connection(), Connection()
        tasks = await waiting(line, *(Asks(room, f"old {n}", old) for n in range(6)))
        room.free = 4
        line.wake()
        tasks += await waiting(line, *(Asks(room, f"new {n}", new) for n in range(4)))
        room.free = 6
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came[4:8] == ["new 0", "old 4", "new 1", "old 5"]

    asyncio.run(run())


def test_nobody_passes_those_who_wait() -> None:
    """Except for what is kept for those that hold little, which needs no turn."""

    async def run() -> None:
        line, room, first, second = FairLine[str](), Room(), Connection(), Connection()
        tasks = await waiting(line, Asks(room, "first", first), Asks(room, "little", second))
        room.free = 1
        assert line.at_once(Asks(room, "third", second)) is None
        room.free_of_little = 1
        assert line.at_once(Asks(room, "fourth", second)) == "fourth"
        line.wake()
        room.free_of_little = 1
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == ["fourth", "first", "little"]

    asyncio.run(run())


def test_who_gives_up_holds_nobody_up() -> None:
    """Its place in the line is gone, and what it took in that moment is given back."""

    async def run() -> None:
        line, room, connection, other = FairLine[str](), Room(), Connection(), Connection()
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
        line, room, connection = FairLine[str](), Room(), Connection()
        fails, waits = await waiting(
            line, Asks(room, "fails", connection, error=MemoryError()), Asks(room, "waits", connection)
        )
        room.free = 1
        line.wake()

        with pytest.raises(MemoryError):
            await fails
        assert await waits == "waits"

    asyncio.run(run())

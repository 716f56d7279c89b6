"""Who waits for room is let in by what its connection holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from lossd_server.admission.fair_line import FairLine


@dataclass(eq=False)
class Connection:
    bytes: int = 0


@dataclass
class Room:
    """Places to be taken, and who took them."""

    free: int = 0
    free_of_little: int = 0
    came: list[str] = field(default_factory=list)


@dataclass
class Asks:
    """Takes one place."""

    room: Room
    name: str
    connection: Connection
    error: Exception | None = None

    def take(self) -> str | None:
        if self.error is not None:
            raise self.error
        if not self.room.free:
            return None
        self.room.free -= 1
        self.connection.bytes += 1
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


def test_the_connection_that_holds_least_is_next() -> None:
    """However many messages of others came before; those of one connection keep their order."""

    async def run() -> None:
        line, room, greedy, modest = FairLine[str](), Room(), Connection(2), Connection()
        tasks = await waiting(line, *(Asks(room, f"greedy {n}", greedy) for n in range(3)), Asks(room, "m 0", modest))
        tasks += await waiting(line, Asks(room, "m 1", modest), Asks(room, "m 2", modest))
        room.free = 6
        line.wake()
        await asyncio.gather(*tasks)

        assert room.came == ["m 0", "m 1", "greedy 0", "m 2", "greedy 1", "greedy 2"]
        assert not line

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
        line, room, connection, other = FairLine[str](), Room(), Connection(), Connection(1)
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
            line, Asks(room, "fails", connection, MemoryError()), Asks(room, "waits", connection)
        )
        room.free = 1
        line.wake()

        with pytest.raises(MemoryError):
            await fails
        assert await waits == "waits"

    asyncio.run(run())

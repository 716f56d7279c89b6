"""Waiting line: who finds no room waits. Connections take turns; within one, calls are let in by order of arrival."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from lossd_server.admission.shared_places import SharedPlaces

T = TypeVar("T")


class Turn(Generic[T]):
    """One that waits. take: what it waits for, None where there is no room for it yet. size: bytes that it needs."""

    __slots__ = ("future", "size", "take")

    def __init__(self, take: Callable[[], T | None], size: int) -> None:
        self.take = take
        self.size = size
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def refuse(self, error: Exception) -> None:
        """It waits no longer."""
        if not self.future.done():
            self.future.set_exception(error)


class WaitingLine:
    """Nobody is let in before the one whose turn it is, however little room would be enough for it.

    places: of those that wait; a connection that has more than its share gives some to another.
    """

    def __init__(self, places: SharedPlaces | None = None) -> None:
        self._places = places
        # By connection, in the order of their turns; no line is empty.
        self._lines: OrderedDict[Hashable, deque[Turn[Any]]] = OrderedDict()

    def __len__(self) -> int:
        """Those that wait; those that have given up are counted until their turn comes."""
        return sum(map(len, self._lines.values()))

    def at_once(self, take: Callable[[], T | None]) -> T | None:
        """What `take` gives where nobody waits; else None."""
        return None if self._lines else take()

    async def enter(
        self,
        take: Callable[[], T | None],
        give_back: Callable[[T], object],
        connection: Hashable = None,
        size: int = 0,
    ) -> T:
        """What `take` gives, as soon as it gives something; raises what it raises, and Overloaded without a place.

        give_back: called with it where who waited was cancelled in the very moment of its turn.
        """
        found = self.at_once(take)
        if found is not None:
            return found
        turn = Turn(take, size)
        if self._places is not None:
            self._places.enter(connection, turn, turn.refuse)
        self._lines.setdefault(connection, deque()).append(turn)
        try:
            return await turn.future
        except asyncio.CancelledError:
            future = turn.future
            if future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())
            self.wake()
            raise
        finally:
            if self._places is not None:
                self._places.leave(connection, turn)

    def first(self) -> Iterator[tuple[Hashable, int]]:
        """Of each connection that waits, in the order of their turns: it, and the size of its first."""
        for connection, line in self._lines.items():
            for turn in line:
                if not turn.future.done():
                    yield connection, turn.size
                    break

    def prefer(self, connections: Iterable[Hashable]) -> None:
        """These have the next turns, the last of them first."""
        for connection in connections:
            if connection in self._lines:
                self._lines.move_to_end(connection, last=False)

    def wake(self) -> None:
        """Lets in those for whom there is room now: to be called when anything was given back."""
        lines = self._lines
        while lines:
            connection, line = next(iter(lines.items()))
            turn = line[0]
            waits = not turn.future.done()
            if waits:
                try:
                    found = turn.take()
                except Exception as error:
                    turn.future.set_exception(error)
                else:
                    if found is None:
                        return
                    turn.future.set_result(found)
            line.popleft()
            if not line:
                del lines[connection]
            elif waits:
                lines.move_to_end(connection)

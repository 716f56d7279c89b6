"""Waiting line: who finds no room waits, and is let in by order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Turn(Generic[T]):
    """One that waits. take: what it waits for, None where there is no room for it yet."""

    __slots__ = ("future", "take")

    def __init__(self, take: Callable[[], T | None]) -> None:
        self.take = take
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class WaitingLine:
    """Nobody is let in before those that came earlier, however little room would be enough for it."""

    def __init__(self) -> None:
        self._line: deque[Turn[Any]] = deque()

    def __len__(self) -> int:
        """Those that wait; those that have given up are counted until their turn comes."""
        return len(self._line)

    def at_once(self, take: Callable[[], T | None]) -> T | None:
        """What `take` gives where nobody waits; else None."""
        return None if self._line else take()

    async def enter(self, take: Callable[[], T | None], give_back: Callable[[T], object]) -> T:
        """What `take` gives, as soon as it gives something; raises what it raises.

        give_back: called with it where who waited was cancelled in the very moment of its turn.
        """
        found = self.at_once(take)
        if found is not None:
            return found
        turn = Turn(take)
        self._line.append(turn)
        try:
            return await turn.future
        except asyncio.CancelledError:
            future = turn.future
            if future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())
            self.wake()
            raise

    def wake(self) -> None:
        """Lets in those for whom there is room now: to be called when anything was given back."""
        while self._line:
            turn = self._line[0]
            if not turn.future.done():
                try:
                    found = turn.take()
                except Exception as error:
                    turn.future.set_exception(error)
                else:
                    if found is None:
                        return
                    turn.future.set_result(found)
            self._line.popleft()

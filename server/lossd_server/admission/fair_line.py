"""Fair waiting line: connections wait for room, and are let in so that each has had as many bytes as the others.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a message's tag is where its connection stands, by the bytes that
it was given while others waited, and the message's own. The least tag is next. So whoever asks for little comes before
those who ask for much, who are not passed for ever: with each byte it comes nearer to them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Taken = TypeVar("Taken", covariant=True)


class Holder(Protocol):
    """A connection, as the line sees it. tag: of its last message that waited."""

    tag: int


class Attempt(Protocol[Taken]):
    """What somebody waits for: `size` bytes. Each gives None where there is no room yet."""

    @property
    def size(self) -> int: ...

    def take(self) -> Taken | None:
        """In turn."""

    def take_little(self) -> Taken | None:
        """From what is kept for those that hold little: needs no turn."""


class FairTurn(Generic[T]):
    """One that waits."""

    __slots__ = ("attempt", "future", "tag")

    def __init__(self, attempt: Attempt[T], tag: int) -> None:
        self.attempt = attempt
        self.tag = tag
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class FairLine(Generic[T]):
    """Messages of one connection keep their order. Nobody passes the least tag, however little room would be enough,
    except by `take_little`."""

    def __init__(self) -> None:
        self._now = 0  # where the last one that was let in began: who did not wait before begins there
        self._lines: dict[Holder, deque[FairTurn[T]]] = {}  # in the order in which they began to wait

    def __bool__(self) -> bool:
        """Whether anybody waits; who has given up is counted until the next `wake`."""
        return bool(self._lines)

    def at_once(self, attempt: Attempt[T]) -> T | None:
        """What there is room for without waiting; None where there is none, or others wait."""
        found = attempt.take_little()
        return attempt.take() if found is None and not self._lines else found

    async def enter(self, holder: Holder, attempt: Attempt[T], give_back: Callable[[T], object]) -> T:
        """Waits until there is room.

        give_back: called with what was taken where who waited was cancelled in the very moment of its turn.
        """
        holder.tag = max(self._now, holder.tag) + attempt.size
        turn = FairTurn(attempt, holder.tag)
        self._lines.setdefault(holder, deque()).append(turn)
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
        for holder in list(self._lines):
            self._drop_gone(holder)
        while self._lines:
            holder = min(self._lines, key=lambda one: self._lines[one][0].tag)
            turn = self._lines[holder][0]
            if not self._let_in(holder, turn.attempt.take):
                break
            self._now = max(self._now, turn.tag - turn.attempt.size)
        for holder, line in list(self._lines.items()):
            while line and self._let_in(holder, line[0].attempt.take_little):
                pass

    def _let_in(self, holder: Holder, take: Callable[[], T | None]) -> bool:
        turn = self._lines[holder][0]
        try:
            found = take()
        except Exception as error:
            turn.future.set_exception(error)
        else:
            if found is None:
                return False
            turn.future.set_result(found)
        self._lines[holder].popleft()
        self._drop_gone(holder)
        return True

    def _drop_gone(self, holder: Holder) -> None:
        """Those at the connection's head that have given up, and the connection itself where nobody is left."""
        line = self._lines[holder]
        while line and line[0].future.done():
            line.popleft()
        if not line:
            del self._lines[holder]

"""Fair waiting line: callers wait for room, and are let in so that each has had as many bytes as the others.

The order is `FairQueue`'s. Nobody passes who is next, however little room would be enough, except by `take_little`, and
where it already holds all that it may by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from lossd_server.admission.fair_queue import FairQueue
from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.call.identity import Sharer

T = TypeVar("T")
Taken = TypeVar("Taken", covariant=True)


class Attempt(Protocol[Taken]):
    """What somebody waits for: `size` bytes. Each gives None where there is no room yet."""

    @property
    def size(self) -> int: ...

    @property
    def is_held_back(self) -> bool:
        """Whether its caller has all that it may have by itself: others pass it then."""

    def take(self) -> Taken | None:
        """In turn."""

    def take_little(self) -> Taken | None:
        """From what is kept for those that hold little: needs no turn."""


class Turn(Generic[T]):
    """One that waits."""

    __slots__ = ("attempt", "future")

    def __init__(self, attempt: Attempt[T]) -> None:
        self.attempt = attempt
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def refuse(self, error: Exception) -> None:
        """It waits no longer."""
        if not self.future.done():
            self.future.set_exception(error)

    def lets_in(self, take: Callable[[], T | None]) -> bool:
        """Whether it waits no longer after this."""
        try:
            found = take()
        except Exception as error:
            self.future.set_exception(error)
            return True
        if found is not None:
            self.future.set_result(found)
        return found is not None


class FairLine(Generic[T]):
    """places: of those that wait; who has more than its share of them gives some to another."""

    def __init__(self, places: SharedPlaces | None = None) -> None:
        self._places = places
        self._queue: FairQueue[Turn[T]] = FairQueue()

    def __len__(self) -> int:
        """Those that wait; those that have given up are counted until their turn comes."""
        return len(self._queue)

    def at_once(self, attempt: Attempt[T]) -> T | None:
        """What there is room for without waiting; None where there is none, or others wait."""
        found = attempt.take_little()
        if found is not None or self._queue or attempt.is_held_back:
            return found
        return attempt.take()

    async def enter(self, sharer: Sharer, attempt: Attempt[T], give_back: Callable[[T], object]) -> T:
        """Waits until there is room. Raises what `take` raises, and Overloaded where there is no place in the line.

        give_back: called with what was taken where who waited was cancelled in the very moment of its turn.
        """
        turn = Turn(attempt)
        if self._places is not None:
            self._places.enter(sharer, turn, turn.refuse)
        self._queue.put(sharer, attempt.size, turn)
        try:
            self.wake()  # all before it may be such as are held back
            return await turn.future
        except asyncio.CancelledError:
            future = turn.future
            if future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())
            self.wake()
            raise
        finally:
            if self._places is not None:
                self._places.leave(sharer, turn)

    def wake(self) -> None:
        """Lets in those for whom there is room now: to be called when anything was given back."""
        queue = self._queue
        while (next_one := queue.first()) is not None:
            sharer, turn = next_one
            if turn.future.done():
                queue.drop(sharer)
            elif turn.attempt.is_held_back:
                queue.set_aside(sharer)
            elif turn.lets_in(turn.attempt.take):
                queue.pop()
            else:
                break
        queue.bring_back()

    def wake_little(self) -> None:
        """The same for what is kept for those that hold little: for whoever is first of each connection."""
        for sharer, turn in list(self._queue.heads()):
            one: Turn[T] | None = turn
            while one is not None and (one.future.done() or one.lets_in(one.attempt.take_little)):
                self._queue.drop(sharer)
                one = self._queue.head_of(sharer)

    def first_of_each(self) -> Iterator[tuple[Sharer, int]]:
        """Of each connection that waits: it, and the size of what it waits for first."""
        for sharer, turn in list(self._queue.heads()):
            one: Turn[T] | None = turn
            while one is not None and one.future.done():  # who has given up hides nobody behind it
                self._queue.drop(sharer)
                one = self._queue.head_of(sharer)
            if one is not None:
                yield sharer, one.attempt.size

    def prefer(self, sharers: Iterable[Sharer]) -> None:
        """These have the next turns, the last of them first."""
        for sharer in sharers:
            self._queue.prefer(sharer)

"""Shared places: a bounded number of calls, of which each connection has its share once all places are taken.

Alone a connection may have every place. Where all are taken, a connection that has fewer than another takes over one of
that other's, the newest. Pure policy, no clock and no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from lossd_server.admission.byte_budget import RETRY_AFTER_S
from lossd_server.errors import Overloaded

GiveUp = Callable[[Overloaded], object]


class SharedPlaces:
    """most: places. what: the calls that take them, in sentences ("health calls")."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0
        # Of each connection that has any, oldest first.
        self._calls: dict[Hashable, dict[object, GiveUp]] = {}

    def enter(self, connection: Hashable, call: object, give_up: GiveUp) -> None:
        """Takes a place for `call`. give_up: called where it goes to another connection. Raises Overloaded."""
        if self._taken >= self._most:
            self._take_over(connection)
        self._calls.setdefault(connection, {})[call] = give_up
        self._taken += 1

    def leave(self, connection: Hashable, call: object) -> None:
        """Gives the call's place back. A second time nothing."""
        calls = self._calls.get(connection, {})
        if calls.pop(call, None) is not None:
            self._taken -= 1
            if not calls:
                del self._calls[connection]

    def _take_over(self, connection: Hashable) -> None:
        """Frees a place of the connection that has most, unless the one that asks would then have more than it."""
        most = max(self._calls, key=lambda one: len(self._calls[one]))
        calls = self._calls[most]
        if len(self._calls.get(connection, ())) + 1 >= len(calls):
            raise self._full()
        call, give_up = next(reversed(calls.items()))
        self.leave(most, call)
        give_up(self._full())

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the server has {self._most} {self._what}, which is the most that it takes, and others need their share",
            reason="OVERLOADED",
            metadata={"bound": self._most},
            retry_after_s=RETRY_AFTER_S,
        )

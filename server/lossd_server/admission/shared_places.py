"""Shared places: a bounded number of calls, of which each caller has its share once all places are taken.

Alone a caller may have every place. Where all are taken, one that has fewer than another takes over one of that
other's: the newest of the connection that has most. The same holds between the connections of one caller. Pure policy,
no clock and no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from lossd_server.call.identity import Sharer
from lossd_server.errors import RETRY_AFTER_S, Overloaded

GiveUp = Callable[[Overloaded], object]


class SharedPlaces:
    """most: places. what: the calls that take them, in sentences ("health calls")."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0
        # Of each connection that has any, by caller; oldest first.
        self._calls: dict[Hashable, dict[Hashable, dict[object, GiveUp]]] = {}

    def enter(self, sharer: Sharer, call: object, give_up: GiveUp) -> None:
        """Takes a place for `call`. give_up: called where it goes to another call. Raises Overloaded."""
        if self._taken >= self._most:
            self._take_over(sharer)
        self._calls.setdefault(sharer.caller, {}).setdefault(sharer.connection, {})[call] = give_up
        self._taken += 1

    def leave(self, sharer: Sharer, call: object) -> None:
        """Gives the call's place back. A second time nothing."""
        connections = self._calls.get(sharer.caller, {})
        calls = connections.get(sharer.connection, {})
        if calls.pop(call, None) is not None:
            self._taken -= 1
            if not calls:
                del connections[sharer.connection]
            if not connections:
                del self._calls[sharer.caller]

    def _take_over(self, sharer: Sharer) -> None:
        """Frees a place of the caller that has most, unless the one that asks would then have more than it; then of its
        own connection that has most, likewise."""
        callers = {caller: sum(map(len, connections.values())) for caller, connections in self._calls.items()}
        caller = max(callers, key=lambda one: callers[one])
        if callers.get(sharer.caller, 0) + 1 >= callers[caller]:
            caller = sharer.caller
        connections = self._calls.get(caller)
        if connections is None:
            raise self._full()
        most = max(connections, key=lambda one: len(connections[one]))
        if caller == sharer.caller and len(connections.get(sharer.connection, ())) + 1 >= len(connections[most]):
            raise self._full()
        call, give_up = next(reversed(connections[most].items()))
        self.leave(Sharer(caller, most), call)
        give_up(self._full())

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the server has {self._most} {self._what}, which is the most that it takes, and others need their share",
            reason="OVERLOADED",
            metadata={"bound": self._most},
            retry_after_s=RETRY_AFTER_S,
        )

"""Fair queue: who is next, so that each caller has had as much as the others, and so have the connections of each.

Self-clocked fair queueing (Golestani, 1994) on two levels. What waits has a tag: where its caller stands by what it was
given while others waited, and the size of its own. The least tag is next, and nobody who begins to wait stands behind
it. So whoever asks for little comes before those who ask for much, who are not passed for ever: with each item the
others come nearer to them. Connections of one caller take turns in the same way, within what that caller is given; the
items of one connection keep their order. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from lossd_server.call.identity import Sharer

FEW = 64

T = TypeVar("T")
MemberT = TypeVar("MemberT", bound="_Member")


class _Member:
    """stands: by what it was given. tag: of what it has next. entry: its valid one in the heap; -1: none."""

    __slots__ = ("entry", "stands", "tag")

    def __init__(self, stands: float) -> None:
        self.stands = stands
        self.tag = stands
        self.entry = -1


class _Level(Generic[MemberT]):
    """Members that take turns. now: the tag of who had the last."""

    __slots__ = ("_heap", "_most", "_serial", "now")

    def __init__(self) -> None:
        self.now = 0.0
        # Entries that hold no more are left in, and dropped when they come up, or when there are `_most`.
        self._heap: list[tuple[float, int, MemberT]] = []
        self._most = FEW
        self._serial = 0

    def rank(self, member: MemberT, size: float) -> None:
        """What the member has next is of `size`."""
        member.tag = member.stands + size
        member.entry = self._serial = self._serial + 1
        heappush(self._heap, (member.tag, member.entry, member))
        if len(self._heap) > self._most:
            self._heap = [one for one in self._heap if one[2].entry == one[1]]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + FEW

    def first(self) -> MemberT | None:
        heap = self._heap
        while heap:
            _, entry, member = heap[0]
            if member.entry == entry:
                return member
            heappop(heap)
        return None

    def served(self, member: MemberT) -> None:
        """The member has had its turn."""
        member.stands = member.tag
        self.now = max(self.now, member.tag)


class _Connection(_Member, Generic[T]):
    """in_line: the sizes of its items."""

    __slots__ = ("in_line", "items", "key")

    def __init__(self, key: Hashable, stands: float) -> None:
        super().__init__(stands)
        self.key = key
        self.in_line = 0.0
        self.items: deque[tuple[float, T]] = deque()


class _Caller(_Member, Generic[T]):
    """in_line: the sizes of its items."""

    __slots__ = ("connections", "in_line", "key", "level")

    def __init__(self, key: Hashable, stands: float) -> None:
        super().__init__(stands)
        self.key = key
        self.in_line = 0.0
        self.level: _Level[_Connection[T]] = _Level()
        self.connections: dict[Hashable, _Connection[T]] = {}


class FairQueue(Generic[T]):
    """Items of some size, by who shares. Nothing is kept of those of whom nothing is in line."""

    def __init__(self) -> None:
        self._level: _Level[_Caller[T]] = _Level()
        self._callers: dict[Hashable, _Caller[T]] = {}
        self._aside: list[_Caller[T]] = []
        self._preferred: list[Sharer] = []
        self._length = 0
        self.in_line = 0.0  # the sizes of all items

    def __len__(self) -> int:
        return self._length

    def ahead_of(self, sharer: Sharer) -> float:
        """Of what is in line, about how much has its turns before what this connection would put in now.

        Each other caller gets no more before then than this one has in line, and so each connection of it.
        """
        caller = self._callers.get(sharer.caller)
        if caller is None:
            return 0.0
        connection = caller.connections.get(sharer.connection)
        own = 0.0 if connection is None else min(caller.in_line, len(caller.connections) * connection.in_line)
        return min(self.in_line, len(self._callers) * own)

    def put(self, sharer: Sharer, size: float, item: T) -> None:
        """Behind what else there is of this connection."""
        self._length += 1
        self.in_line += size
        caller = self._callers.get(sharer.caller)
        if caller is None:
            caller = self._callers[sharer.caller] = _Caller(sharer.caller, self._level.now)
        caller.in_line += size
        connection = caller.connections.get(sharer.connection)
        if connection is not None:
            connection.in_line += size
            connection.items.append((size, item))
            return
        connection = caller.connections[sharer.connection] = _Connection(sharer.connection, caller.level.now)
        connection.in_line = size
        connection.items.append((size, item))
        caller.level.rank(connection, size)
        if caller.level.first() is connection:
            self._level.rank(caller, size)

    def first(self) -> tuple[Sharer, T] | None:
        """Who is next, and with what, which stays in line."""
        while self._preferred:
            sharer = self._preferred[-1]
            item = self.head_of(sharer)
            if item is not None:
                return sharer, item
            self._preferred.pop()
        caller = self._level.first()
        if caller is None:
            return None
        connection = _head(caller)
        return Sharer(caller.key, connection.key), connection.items[0][1]

    def pop(self) -> T:
        """The next item, which counts for who had it."""
        next_one = self.first()
        assert next_one is not None
        sharer, item = next_one
        caller = self._callers[sharer.caller]
        connection = caller.connections[sharer.connection]
        if self._preferred:
            self._preferred.pop()
            connection.stands = connection.tag
            caller.stands += connection.items[0][0]
        else:
            caller.level.served(connection)
            self._level.served(caller)
        self._take_out(caller, connection)
        return item

    def drop(self, sharer: Sharer) -> T:
        """Takes out what this connection has next: it counts for nothing."""
        caller = self._callers[sharer.caller]
        return self._take_out(caller, caller.connections[sharer.connection])

    def _take_out(self, caller: _Caller[T], connection: _Connection[T]) -> T:
        size, item = connection.items.popleft()
        self._length -= 1
        self.in_line -= size
        caller.in_line -= size
        connection.in_line -= size
        if connection.items:
            caller.level.rank(connection, connection.items[0][0])
        else:
            connection.entry = -1
            del caller.connections[connection.key]
        if caller.connections:
            self._level.rank(caller, _head(caller).items[0][0])
        else:
            caller.entry = -1
            del self._callers[caller.key]
        if not self._length:
            self._level = _Level()
            self._preferred.clear()
            self.in_line = 0.0
        return item

    def set_aside(self, sharer: Sharer) -> None:
        """Its caller is passed over, with all of its items, until `bring_back`."""
        caller = self._callers[sharer.caller]
        self._preferred = [one for one in self._preferred if one.caller != sharer.caller]
        caller.entry = -1
        self._aside.append(caller)

    def bring_back(self) -> None:
        """Those that were set aside have turns again, from where the others stand."""
        aside, self._aside = self._aside, []
        for caller in aside:
            caller.stands = max(caller.stands, self._level.now)
            self._level.rank(caller, _head(caller).items[0][0])

    def heads(self) -> Iterator[tuple[Sharer, T]]:
        """The next item of each connection, in the order in which they began to wait."""
        for caller in self._callers.values():
            for connection in caller.connections.values():
                yield Sharer(caller.key, connection.key), connection.items[0][1]

    def head_of(self, sharer: Sharer) -> T | None:
        """The next item of this connection."""
        caller = self._callers.get(sharer.caller)
        connection = None if caller is None else caller.connections.get(sharer.connection)
        return None if connection is None else connection.items[0][1]

    def prefer(self, sharer: Sharer) -> None:
        """What this connection has next comes before all else; it counts as always."""
        self._preferred.append(sharer)


def _head(caller: _Caller[T]) -> _Connection[T]:
    connection = caller.level.first()
    assert connection is not None
    return connection

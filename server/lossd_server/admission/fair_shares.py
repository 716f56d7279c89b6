"""Fair shares: what each may hold where not all can have what they want. Pure policy over counts and bytes.

Alone a connection may hold everything. Once another waits, each caller that holds something or waits has an equal
share, and each of its connections an equal one of that: who is below its own may have calls of those above theirs
pushed out, down to the share. Only calls that wait for their own client are pushed out, and only for who stays within
its share: so nobody is pushed out in turn for what it was given, and no caller has to make room for another while it
holds less than its share, however its connections stand.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lossd_server.call.identity import Sharer

CallT = TypeVar("CallT", bound=Hashable)


@dataclass(slots=True)
class Holding:
    """What a connection holds, or a caller."""

    bytes: int = 0
    requests: int = 0

    def add(self, size: int, calls: int) -> None:
        self.bytes += size
        self.requests += calls

    def is_above(self, share: Holding) -> bool:
        return self.bytes > share.bytes or self.requests > share.requests

    def allows(self, size: int, share: Holding) -> bool:
        """Whether a call of `size` more stays within the share."""
        return self.bytes + size <= share.bytes and self.requests < share.requests


NOTHING = Holding()


@dataclass(frozen=True, slots=True)
class HeldCall(Generic[CallT]):
    """A call that is charged. since: when it began to wait for its client, on a steady clock; +∞ where it does not."""

    call: CallT
    sharer: Sharer
    bytes: int
    since: float


class FairShares(Generic[CallT]):
    """Of `max_bytes` and `max_requests`, between who holds and who waits: (sharer, bytes of its first)."""

    def __init__(
        self,
        max_bytes: int,
        max_requests: int,
        held: Iterable[HeldCall[CallT]],
        waiting: Sequence[tuple[Sharer, int]],
    ) -> None:
        self._calls = list(held)
        self._waiting = waiting
        self._connections: dict[Sharer, Holding] = {sharer: Holding() for sharer, _ in waiting}
        self._callers: dict[Hashable, Holding] = {sharer.caller: Holding() for sharer, _ in waiting}
        for one in self._calls:
            self._connections.setdefault(one.sharer, Holding()).add(one.bytes, 1)
            self._callers.setdefault(one.sharer.caller, Holding()).add(one.bytes, 1)
        self._counts = Counter(sharer.caller for sharer in self._connections)
        count = max(1, len(self._callers))
        self._share = Holding(max_bytes // count, max(1, max_requests // count))

    def entitled(self) -> list[tuple[Sharer, int]]:
        """Those that wait and stay within their share with what they wait for.

        Where their caller holds its share already, its own other connections make room for them, and nobody else.
        """
        return [
            (sharer, size)
            for sharer, size in self._waiting
            if self._connections[sharer].allows(size, self._share_of(sharer))
        ]

    def to_push_out(self, free_bytes: int, free_requests: int, until: float) -> list[CallT]:
        """Calls that have to go so that the entitled find room; free: what there is without that.

        Of those that have waited for their client since `until`, the longest first; those of callers below their share,
        which make room for connections of their own, last.
        """
        # What is lacked by callers below their share, and by each that is not.
        lack, own_lacks = Holding(-free_bytes, -free_requests), defaultdict[Hashable, Holding](Holding)
        below = set()
        for sharer, size in self.entitled():
            if self._callers[sharer.caller].allows(size, self._share):
                lack.add(size, 1)
                below.add(sharer.caller)
            else:
                own_lacks[sharer.caller].add(size, 1)
        for own in own_lacks.values():  # what the others leave free
            own.add(min(0, lack.bytes), min(0, lack.requests))
        found = []
        for one in sorted((one for one in self._calls if one.since <= until), key=self._is_later):
            sharer = one.sharer
            connection, caller = self._connections[sharer], self._callers[sharer.caller]
            if not connection.is_above(self._share_of(sharer)):
                continue
            if lack.is_above(NOTHING) and (caller.is_above(self._share) or sharer.caller in below):
                lack.add(-one.bytes, -1)
            elif own_lacks[sharer.caller].is_above(NOTHING):
                own_lacks[sharer.caller].add(-one.bytes, -1)
            else:
                continue
            connection.add(-one.bytes, -1)
            caller.add(-one.bytes, -1)
            found.append(one.call)
        return found

    def _is_later(self, one: HeldCall[CallT]) -> tuple[bool, float]:
        return not self._callers[one.sharer.caller].is_above(self._share), one.since

    def _share_of(self, sharer: Sharer) -> Holding:
        """Of a connection."""
        count = self._counts[sharer.caller]
        return Holding(self._share.bytes // count, max(1, self._share.requests // count))

"""Fair shares: what each connection may hold where not all can have what they want. Pure policy over counts and bytes.

Alone a connection may hold everything. Once another waits, each that holds something or waits has an equal share: who
is below its own may have calls of those above theirs pushed out, down to the share. Only calls that wait for their own
client are pushed out, and only for who stays within its share: so nobody is pushed out in turn for what it was given.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

CallT = TypeVar("CallT", bound=Hashable)


@dataclass(slots=True)
class Holding:
    """What a connection holds."""

    bytes: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class HeldCall(Generic[CallT]):
    """A call that is charged. since: when it began to wait for its client, on a steady clock; +∞ where it does not."""

    call: CallT
    connection: Hashable
    bytes: int
    since: float


class FairShares(Generic[CallT]):
    """Of `max_bytes` and `max_requests`, between who holds and who waits: (connection, bytes of its first)."""

    def __init__(
        self,
        max_bytes: int,
        max_requests: int,
        held: Iterable[HeldCall[CallT]],
        waiting: Sequence[tuple[Hashable, int]],
    ) -> None:
        self._calls = list(held)
        self._waiting = waiting
        self._holdings: dict[Hashable, Holding] = {connection: Holding() for connection, _ in waiting}
        for one in self._calls:
            holding = self._holdings.setdefault(one.connection, Holding())
            holding.bytes += one.bytes
            holding.requests += 1
        sharers = max(1, len(self._holdings))
        self._bytes = max_bytes // sharers
        self._requests = max(1, max_requests // sharers)

    def entitled(self) -> list[tuple[Hashable, int]]:
        """Those that wait and stay within their share with what they wait for."""
        found = []
        for connection, size in self._waiting:
            holding = self._holdings[connection]
            if holding.bytes + size <= self._bytes and holding.requests < self._requests:
                found.append((connection, size))
        return found

    def to_push_out(self, free_bytes: int, free_requests: int, until: float) -> list[CallT]:
        """Calls that have to go so that the entitled find room; free: what there is without that.

        Of those that have waited for their client since `until`, the longest first.
        """
        entitled = self.entitled()
        lack_bytes = sum(size for _, size in entitled) - free_bytes
        lack_requests = len(entitled) - free_requests
        found = []
        for one in sorted((one for one in self._calls if one.since <= until), key=lambda one: one.since):
            if lack_bytes <= 0 and lack_requests <= 0:
                break
            holding = self._holdings[one.connection]
            if holding.bytes > self._bytes or holding.requests > self._requests:
                holding.bytes -= one.bytes
                holding.requests -= 1
                lack_bytes -= one.bytes
                lack_requests -= 1
                found.append(one.call)
        return found

"""Unclaimed bytes: what came and no call was charged for yet. Counted by connection, bounded over all of them.

A client may fill the first window of every stream before anybody asks for its message. Beyond the bound, streams that
have waited for longest are reset, of those connections that hold more than their share: each caller has an equal one,
and each of its connections an equal one of that. Nobody has looked at the calls yet, so that tokens tell no callers
apart here: a caller is the subject of a connection's certificate, or the host that it comes from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Protocol


class UnclaimedBytes:
    """Of one connection. stream_bytes: what a stream costs until its first message is taken."""

    __slots__ = ("bytes", "stream_bytes")

    def __init__(self, stream_bytes: int) -> None:
        self.bytes = 0
        self.stream_bytes = stream_bytes


class UnclaimedHolder(Protocol):
    """A connection."""

    @property
    def caller(self) -> Hashable: ...

    @property
    def unclaimed_bytes(self) -> int: ...

    def shed(self, most_bytes: int) -> None:
        """Ends streams, or the connection, until no more than this is unclaimed."""


class UnclaimedSum:
    """Of all connections, each of which says from time to time what it holds. most_bytes: what is let in."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._said: dict[UnclaimedHolder, int] = {}
        self._sum = 0

    def say(self, holder: UnclaimedHolder, size: int) -> bool:
        """A connection holds so much. False where that is too much together: `relieve`, once it is known of all."""
        self._sum += size - self._said.get(holder, 0)
        if size:
            self._said[holder] = size
        else:
            self._said.pop(holder, None)
        return self._sum <= self._most_bytes

    def relieve(self) -> None:
        """Sheds what is above the shares of three quarters, from the callers who hold most, and of each from the
        connections that do: it is not done again at once."""
        for holder in list(self._said):
            self.say(holder, holder.unclaimed_bytes)
        if self._sum <= self._most_bytes:
            return
        enough = self._most_bytes // 4 * 3
        callers = self._by_caller()
        share = enough // len(callers)
        for held, holders in callers:
            left = self._sum - held  # of the others
            for holder in holders:
                if self._sum <= max(enough, left + share):
                    break
                holder.shed(share // len(holders))
                self.say(holder, holder.unclaimed_bytes)

    def _by_caller(self) -> list[tuple[int, list[UnclaimedHolder]]]:
        """What each caller holds, and its connections; of either those first that hold most."""
        connections = defaultdict[Hashable, list[UnclaimedHolder]](list)
        for holder in sorted(self._said, key=lambda one: self._said[one], reverse=True):
            connections[holder.caller].append(holder)
        callers = [(sum(self._said[one] for one in holders), holders) for holders in connections.values()]
        return sorted(callers, key=lambda caller: caller[0], reverse=True)

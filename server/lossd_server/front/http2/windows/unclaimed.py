"""Unclaimed bytes: what came and no call was charged for yet. Counted by connection, bounded over all of them.

A client may fill the first window of every stream before anybody asks for its message. Beyond the bound, streams that
have waited for longest are reset, of those connections that hold more than their share.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        """Sheds what is above the shares of three quarters, from who holds most: it is not done again at once."""
        for holder in list(self._said):
            self.say(holder, holder.unclaimed_bytes)
        if self._sum <= self._most_bytes:
            return
        enough = self._most_bytes // 4 * 3
        share = enough // len(self._said)
        for holder in self._heaviest():
            if self._sum <= enough:
                break
            holder.shed(share)
            self.say(holder, holder.unclaimed_bytes)

    def _heaviest(self) -> Iterable[UnclaimedHolder]:
        return sorted(self._said, key=lambda holder: self._said[holder], reverse=True)

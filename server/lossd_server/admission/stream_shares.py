"""Stream shares: how much of what admission allows streams may hold, all together and by connection. Pure policy.

In the middle of a stream there is nothing to refuse: what finds no room waits, and is not read on. So streams leave
unary calls some room, which are refused when there is none. Three parts are counted:

- Messages in work, which always finish, with the answers they lead to. One of them is always taken, so that streams
  never wait for each other in a circle.
- What Opens leave until their evaluations end: half of the streams' share at most, and refused beyond it. A connection
  has at most three quarters of what the others leave, so that there is always room for one more.
- Little: a part beside those, of which every connection has its own few KiB. So one that asks for little is let in
  whatever the others hold, and for how long.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum

from lossd_server.admission.byte_budget import RETRY_AFTER_S, Admission
from lossd_server.admission.fair_share import within
from lossd_server.errors import Overloaded

# Of an evaluation that is open, beside its Open's bytes.
EVALUATION_BYTES = 4096
# What a connection has of the part that is kept for little, at most: some messages of a small evaluation.
LITTLE_BYTES = 1 << 16
# The part that is kept for little, of the whole budget; and a connection's own, of that part.
LITTLE_PART, OWN_PART = 1 / 16, 1 / 16


class Part(IntEnum):
    """Where bytes are counted."""

    IN_WORK = 0
    LEFT = 1
    LITTLE = 2


class ConnectionShare:
    """What the streams of one connection hold, by part. streams: how many there are. tag: its place in `FairLine`."""

    __slots__ = ("held", "key", "streams", "tag")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.held = [0, 0, 0]
        self.streams = 0
        self.tag = 0

    @property
    def bytes(self) -> int:
        return sum(self.held)


class StreamsBudget:
    """Counts the bytes of all streams into what admission counts, by part and by connection."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._share = max(admission.max_message_bytes, admission.max_bytes // 4 * 3)
        self._most_little = int(admission.max_bytes * LITTLE_PART)
        self._own_little = min(LITTLE_BYTES, int(self._most_little * OWN_PART))
        self._held = [0, 0, 0]
        self._connections: dict[Hashable, ConnectionShare] = {}

    def begin(self, connection: Hashable) -> ConnectionShare:
        """A stream of this connection begins."""
        share = self._connections.get(connection)
        if share is None:
            share = self._connections[connection] = ConnectionShare(connection)
        share.streams += 1
        return share

    def end(self, share: ConnectionShare) -> None:
        """One of its streams is over, and holds nothing."""
        share.streams -= 1
        if not share.streams:
            del self._connections[share.key]

    def is_above(self, share: ConnectionShare) -> bool:
        """Whether a connection holds more than it would if all held alike."""
        return share.bytes * len(self._connections) > self._share

    def take_little(self, size: int, share: ConnectionShare) -> bool:
        """Charges a message of `size` bytes to what is kept for those that hold little."""
        little, admission = self._held[Part.LITTLE], self._admission
        if not self._is_little(size, share) or (little and admission.bytes + size > admission.max_bytes):
            return False
        self._add(Part.LITTLE, size, share)
        return True

    def take(self, size: int, share: ConnectionShare) -> bool:
        """Charges a message of `size` bytes as one in work. False: others must finish first."""
        if self._held[Part.IN_WORK] and not self._has_room(size):
            return False
        self._add(Part.IN_WORK, size, share)
        return True

    def leave(self, size: int, part: Part, share: ConnectionShare) -> Part:
        """The charge of a message becomes that of an evaluation, which is itself a few objects more: where it is
        counted. Raises Overloaded, and changes nothing then."""
        if part is Part.LITTLE and self._is_little(EVALUATION_BYTES, share):
            self._add(part, EVALUATION_BYTES, share)
            return part
        most, whole = self._share // 2, size + EVALUATION_BYTES
        own, left = share.held[Part.LEFT], self._held[Part.LEFT]
        if left + whole > most or (own and not within(own + whole, left - own, most)):
            raise Overloaded(
                f"the server is full: open evaluations hold {left} bytes of at most {most}, {own} of them on this"
                f" connection, which may have three quarters of what others leave; this one has {whole}",
                reason="OVERLOADED",
                metadata={
                    "size_bytes": whole,
                    "inflight_bytes": left,
                    "connection_bytes": own,
                    "max_inflight_bytes": most,
                },
                retry_after_s=RETRY_AFTER_S,
            )
        self._add(part, -size, share)
        self._add(Part.LEFT, whole, share)
        return Part.LEFT

    def grow(self, size: int, more: int, part: Part, share: ConnectionShare, forced: bool = False) -> Part:
        """Charges `more` bytes for a message that has `size` by now: where all of it is counted then.

        forced: whatever there is room for. Raises Overloaded, and changes nothing then.
        """
        if not forced and not self._has_room(more):
            raise self._admission.overloaded(more)
        if part is Part.LITTLE and not self._is_little(more, share):
            self._add(part, -size, share)
            self._add(Part.IN_WORK, size, share)
            part = Part.IN_WORK
        self._add(part, more, share)
        return part

    def give(self, size: int, part: Part, share: ConnectionShare) -> None:
        self._add(part, -size, share)

    def enter(self) -> None:
        """A stream that holds something counts as a request."""
        self._admission.requests += 1

    def exit(self) -> None:
        self._admission.requests -= 1

    def _is_little(self, size: int, share: ConnectionShare) -> bool:
        if share.held[Part.LITTLE] + size > self._own_little:
            return False
        return self._held[Part.LITTLE] + size <= self._most_little

    def _has_room(self, size: int) -> bool:
        used, admission = self._held[Part.IN_WORK] + self._held[Part.LEFT], self._admission
        return used + size <= self._share and admission.bytes + size <= admission.max_bytes

    def _add(self, part: Part, size: int, share: ConnectionShare) -> None:
        self._held[part] += size
        share.held[part] += size
        self._admission.bytes += size

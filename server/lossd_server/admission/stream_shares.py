"""Stream shares: how much of what admission allows streams may hold: all, each caller's, each connection's. Pure.

In the middle of a stream there is nothing to refuse: what finds no room waits, and is not read on. So streams leave
unary calls some room, which are refused when there is none. Three parts are counted:

- Messages in work, which always finish, with the answers they lead to. One of them is always taken, so that streams
  never wait for each other in a circle.
- What Opens leave until their evaluations end: half of the streams' share at most, and refused beyond it. A caller has
  at most three quarters of what the others leave, and so has a connection: there is always room for one more.
- Little: a part beside those, of which every connection has its own few KiB, and all of a caller three quarters of what
  the others leave. So one that asks for little is let in whatever the others hold, and for how long.

Whoever has as many bytes as its own limit allows (`CallerHolding`) waits by itself, with one message in any case.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHolding
from lossd_server.admission.fair_share import within
from lossd_server.call.identity import Sharer
from lossd_server.errors import RETRY_AFTER_S, Overloaded

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


class StreamsHolding:
    """What streams hold, by part. streams: how many there are."""

    __slots__ = ("held", "streams")

    def __init__(self) -> None:
        self.held = [0, 0, 0]
        self.streams = 0


class CallerShare(StreamsHolding):
    """Of one caller. connections: how many have streams. holding: all that it has, its other calls included."""

    __slots__ = ("connections", "holding")

    def __init__(self, holding: CallerHolding) -> None:
        super().__init__()
        self.holding = holding
        self.connections = 0


class ConnectionShare(StreamsHolding):
    """Of one connection of a caller."""

    __slots__ = ("caller", "sharer")

    def __init__(self, sharer: Sharer, caller: CallerShare) -> None:
        super().__init__()
        self.sharer = sharer
        self.caller = caller


class StreamsBudget:
    """Counts the bytes of all streams into what admission counts, by part, by caller and by connection."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._share = max(admission.max_message_bytes, admission.max_bytes // 4 * 3)
        self._most_little = int(admission.max_bytes * LITTLE_PART)
        self._own_little = min(LITTLE_BYTES, int(self._most_little * OWN_PART))
        self._held = [0, 0, 0]
        self._callers: dict[Hashable, CallerShare] = {}
        self._connections: dict[Sharer, ConnectionShare] = {}

    def begin(self, sharer: Sharer, holding: CallerHolding) -> ConnectionShare:
        """A stream of this connection begins. holding: its caller's."""
        caller = self._callers.get(sharer.caller)
        if caller is None:
            caller = self._callers[sharer.caller] = CallerShare(holding)
        share = self._connections.get(sharer)
        if share is None:
            share = self._connections[sharer] = ConnectionShare(sharer, caller)
            caller.connections += 1
        share.streams += 1
        caller.streams += 1
        return share

    def end(self, share: ConnectionShare) -> None:
        """One of its streams is over, and holds nothing."""
        caller = share.caller
        share.streams -= 1
        caller.streams -= 1
        if not share.streams:
            del self._connections[share.sharer]
            caller.connections -= 1
        if not caller.streams:
            del self._callers[share.sharer.caller]
            self._admission.callers.forget(caller.holding)

    def is_above(self, share: ConnectionShare) -> bool:
        """Whether a connection holds more than it would if all callers held alike, and all connections of each."""
        return sum(share.held) * len(self._callers) * share.caller.connections > self._share

    def is_held_back(self, size: int, share: ConnectionShare) -> bool:
        """Whether its caller has all that it may have by itself, and something of that is in work, which finishes."""
        caller = share.caller
        holding = caller.holding
        return not holding.has_room(size) and holding.bytes > caller.held[Part.LEFT] + caller.held[Part.LITTLE]

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
        left = self._held[Part.LEFT]
        share.caller.holding.require_open(share.caller.held[Part.LEFT], whole)
        own, callers = share.held[Part.LEFT], share.caller.held[Part.LEFT]
        if left + whole > most or not all(not had or within(had + whole, left - had, most) for had in (own, callers)):
            raise Overloaded(
                f"the server is full: open evaluations hold {left} bytes of at most {most}, {callers} of them of this"
                f" caller and {own} on this connection, each of which may have three quarters of what others leave;"
                f" this one has {whole}",
                reason="OVERLOADED",
                metadata={
                    "size_bytes": whole,
                    "inflight_bytes": left,
                    "caller_bytes": callers,
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
        if not forced:
            if not self._has_room(more):
                raise self._admission.overloaded(more)
            holding = share.caller.holding
            if holding.bytes > size:
                holding.require(more)
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
        little, caller = Part.LITTLE, share.caller
        if share.held[little] + size > self._own_little or self._held[little] + size > self._most_little:
            return False
        own = caller.held[little]
        return not own or within(own + size, self._held[little] - own, self._most_little)

    def _has_room(self, size: int) -> bool:
        used, admission = self._held[Part.IN_WORK] + self._held[Part.LEFT], self._admission
        return used + size <= self._share and admission.bytes + size <= admission.max_bytes

    def _add(self, part: Part, size: int, share: ConnectionShare) -> None:
        caller = share.caller
        self._held[part] += size
        share.held[part] += size
        caller.held[part] += size
        caller.holding.bytes += size
        self._admission.bytes += size

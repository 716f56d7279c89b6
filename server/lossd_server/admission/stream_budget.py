"""Stream budget: how much of what admission allows streams may hold. Pure policy, no clock and no I/O.

In the middle of a stream there is nothing to refuse: what finds no room waits, and is not read on. So streams leave a
quarter to unary calls, which are refused when there is none. Two kinds of bytes: those of a message in work, which
always finish, and those that an Open leaves until its evaluation ends. The second have half of the streams' share at
most and are refused beyond it, and one message of the first is always taken: so streams never wait for each other in
a circle.
"""

from __future__ import annotations

from collections.abc import Callable

from lossd_server.admission.byte_budget import RETRY_AFTER_S, Admission
from lossd_server.errors import Overloaded

# Of an evaluation that is open, beside its Open's bytes.
EVALUATION_BYTES = 4096


class StreamsBudget:
    """Counts the bytes of all streams, in work and left by Opens, into what admission counts."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._share = max(admission.max_message_bytes, admission.max_bytes // 4 * 3)
        self._in_work = 0
        self._left = 0

    def take(self, size: int) -> bool:
        """Charges a message of `size` bytes. False: others must finish first."""
        admission = self._admission
        if self._in_work and (
            self._in_work + self._left + size > self._share or admission.bytes + size > admission.max_bytes
        ):
            return False
        self._in_work += size
        admission.bytes += size
        return True

    def leave(self, size: int) -> None:
        """The charge of a message becomes that of an evaluation, which is itself a few objects more. Raises
        Overloaded, and changes nothing then."""
        most = self._share // 2
        if self._left + size + EVALUATION_BYTES > most:
            raise Overloaded(
                f"the server is full: evaluations hold {self._left} bytes of at most {most}, and this one has {size}",
                reason="OVERLOADED",
                metadata={"size_bytes": size, "inflight_bytes": self._left, "max_inflight_bytes": most},
                retry_after_s=RETRY_AFTER_S,
            )
        self._in_work -= size
        self._left += size + EVALUATION_BYTES
        self._admission.bytes += EVALUATION_BYTES

    def grow(self, size: int) -> None:
        """Charges `size` bytes more for a message in work. Raises Overloaded, and changes nothing then."""
        admission = self._admission
        if self._in_work + self._left + size > self._share or admission.bytes + size > admission.max_bytes:
            raise admission.overloaded(size)
        self._in_work += size
        admission.bytes += size

    def give(self, size: int, left: bool) -> None:
        """Gives a charge back; left: whether it is an evaluation's."""
        if left:
            self._left -= size
        else:
            self._in_work -= size
        self._admission.bytes -= size

    def enter(self) -> None:
        """A stream that holds something counts as a request."""
        self._admission.requests += 1

    def exit(self) -> None:
        self._admission.requests -= 1


class Reservation:
    """One message's bytes, given back when the last of its holders has dropped it. `account` is its stream's."""

    __slots__ = ("_account", "_holders", "_left", "size")

    def __init__(self, account: StreamBudget, size: int) -> None:
        self.size = size
        self._account = account
        self._holders = 1
        self._left = False

    def hold(self) -> Reservation:
        self._holders += 1
        return self

    def drop(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._account.give(self.size, self._left)

    def grow(self, size: int) -> None:
        """For what its evaluations copied out of shared memory. Raises Overloaded."""
        if size:
            self._account.grow(size)
            self.size += size

    def leave(self) -> None:
        """For as long as an evaluation lasts. Raises Overloaded."""
        self._account.leave(self.size)
        self.size += EVALUATION_BYTES
        self._left = True


class StreamBudget:
    """One stream's charges: `messages` and `bytes` in work. changed: called when some are given back."""

    def __init__(self, room: StreamsBudget, changed: Callable[[], None]) -> None:
        self.messages = 0
        self.bytes = 0
        self._left = 0
        self._room = room
        self._changed = changed
        self._charges = 0
        self._closed = False

    def take(self, size: int) -> Reservation | None:
        """The charge of a message; None where there is no room yet."""
        if not self._room.take(size):
            return None
        if not self._charges:
            self._room.enter()
        self._charges += 1
        self.messages += 1
        self.bytes += size
        return Reservation(self, size)

    def grow(self, size: int) -> None:
        if self._closed:
            return
        self._room.grow(size)
        self.bytes += size

    def leave(self, size: int) -> None:
        if self._closed:
            return
        self._room.leave(size)
        self.messages -= 1
        self.bytes -= size
        self._left += size + EVALUATION_BYTES

    def give(self, size: int, left: bool) -> None:
        if self._closed:
            return
        if left:
            self._left -= size
        else:
            self.messages -= 1
            self.bytes -= size
        self._charges -= 1
        self._room.give(size, left)
        if not self._charges:
            self._room.exit()
        self._changed()

    def close(self) -> None:
        """Gives everything back; what is dropped afterwards is not counted again. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._charges:
            self._room.give(self.bytes, left=False)
            self._room.give(self._left, left=True)
            self._room.exit()
        self._changed()

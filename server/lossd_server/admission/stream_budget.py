"""Stream budget: what one stream is charged with, message by message. Pure, no clock and no I/O."""

from __future__ import annotations

from collections.abc import Callable

from lossd_server.admission.stream_shares import EVALUATION_BYTES, ConnectionShare, Part, StreamsBudget
from lossd_server.call.identity import Sharer


class Reservation:
    """One message's bytes, given back when the last of its holders has dropped it. `account` is its stream's.

    size: what is charged. needs: what is known to be held, so far: less, where an answer was charged in advance.
    """

    __slots__ = ("_account", "_holders", "left", "needs", "part", "size")

    def __init__(self, account: StreamBudget, size: int, needs: int, part: Part) -> None:
        self.size = size
        self.needs = needs
        self.part = part
        self.left = False  # by an Open, to its evaluation
        self._account = account
        self._holders = 1

    @property
    def sharer(self) -> Sharer:
        """Whose it is."""
        return self._account.sharer

    def hold(self) -> Reservation:
        self._holders += 1
        return self

    def drop(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._account.give(self)

    def grow(self, more: int) -> None:
        """For what its evaluations copied out of shared memory, and for their answers. Raises Overloaded."""
        missing = self.needs + more - self.size
        if missing > 0:
            self._account.grow(self, missing)
        self.needs += more

    def settle(self, needs: int | None = None) -> None:
        """It is known now what is held, `needs` where it is given: whether there is room for it or not."""
        if needs is not None:
            self.needs = needs
        if self.needs != self.size:
            self._account.resize(self, self.needs)

    def leave(self) -> None:
        """For as long as an evaluation lasts. Raises Overloaded."""
        self.settle()
        self._account.leave(self)
        self.needs = self.size


class WantedRoom:
    """A message that waits for room (`fair_line.Attempt`). size: what it is charged with until `needs` is settled."""

    __slots__ = ("_account", "_needs", "size")

    def __init__(self, account: StreamBudget, needs: int, size: int) -> None:
        self._account = account
        self._needs = needs
        self.size = size

    @property
    def is_held_back(self) -> bool:
        return self._account.is_held_back(self.size)

    def take(self) -> Reservation | None:
        return self._account.take(self.size, self._needs)

    def take_little(self) -> Reservation | None:
        return None if self.is_held_back else self._account.take_little(self.size, self._needs)


class StreamBudget:
    """One stream's charges: `messages` and `bytes` in work. changed: called when some are given back."""

    def __init__(self, room: StreamsBudget, share: ConnectionShare, changed: Callable[[], None]) -> None:
        self.messages = 0
        self.bytes = 0
        self.sharer = share.sharer
        self._room = room
        self._share = share
        self._changed = changed
        self._held = [0, 0, 0]  # by part
        self._charges = 0
        self._closed = False

    def is_held_back(self, size: int) -> bool:
        """Whether its caller has all that it may have by itself."""
        return self._room.is_held_back(size, self._share)

    def take(self, size: int, needs: int | None = None) -> Reservation | None:
        """The charge of a message; None where there is no room yet. needs: see Reservation."""
        return self._taken(size, needs, Part.IN_WORK) if self._room.take(size, self._share) else None

    def take_little(self, size: int, needs: int | None = None) -> Reservation | None:
        """The same, of what is kept for those that hold little."""
        return self._taken(size, needs, Part.LITTLE) if self._room.take_little(size, self._share) else None

    def grow(self, charge: Reservation, more: int, forced: bool = False) -> None:
        if self._closed:
            return
        part = self._room.grow(charge.size, more, charge.part, self._share, forced)
        self._stands(charge, charge.size + more, part)

    def resize(self, charge: Reservation, size: int) -> None:
        if self._closed or size == charge.size:
            return
        if size > charge.size:
            self.grow(charge, size - charge.size, forced=True)
        else:
            self._room.give(charge.size - size, charge.part, self._share)
            self._stands(charge, size, charge.part)
            self._changed()

    def leave(self, charge: Reservation) -> None:
        if self._closed:
            return
        part = self._room.leave(charge.size, charge.part, self._share)
        self.messages -= 1
        self.bytes -= charge.size
        charge.left = True
        self._stands(charge, charge.size + EVALUATION_BYTES, part)

    def give(self, charge: Reservation) -> None:
        if self._closed:
            return
        self._room.give(charge.size, charge.part, self._share)
        self._stands(charge, 0, charge.part)
        if not charge.left:
            self.messages -= 1
        self._charges -= 1
        if not self._charges:
            self._room.exit()
        self._changed()

    def close(self) -> None:
        """Gives everything back; what is dropped afterwards is not counted again. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for part in Part:
            self._room.give(self._held[part], part, self._share)
        if self._charges:
            self._room.exit()
        self._room.end(self._share)
        self._changed()

    def _taken(self, size: int, needs: int | None, part: Part) -> Reservation:
        if not self._charges:
            self._room.enter()
        self._charges += 1
        self.messages += 1
        self.bytes += size
        self._held[part] += size
        return Reservation(self, size, size if needs is None else needs, part)

    def _stands(self, charge: Reservation, size: int, part: Part) -> None:
        """A charge is of `size` bytes from now on, counted there."""
        self._held[charge.part] -= charge.size
        self._held[part] += size
        if not charge.left:
            self.bytes += size - charge.size
        charge.size, charge.part = size, part

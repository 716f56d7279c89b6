"""Request body: the one message of a unary call. Charged before it is read, bounded in size, exactly one.

Where the front tells a message's size before it lets it in, the caller waits for room, with nothing of it here. Where
it cannot, the size that was announced is charged at once or refused, and the largest is reserved where none was. Calls
that wait for their own client, of a caller that holds more than its share, make room for others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES, Admission
from lossd_server.admission.fair_line import FairLine
from lossd_server.admission.fair_shares import FairShares, HeldCall
from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.call.contract import Body, ServerCall
from lossd_server.call.identity import Sharer
from lossd_server.errors import RETRY_AFTER_S, InvalidRequest, Overloaded, invalid, no_message
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.wire.metadata import REQUEST_BYTES

# For a client to go on, before its call makes room for another connection: beyond a round trip, and well within
# `max_admission_wait_s`.
PATIENCE_S = 0.25


@dataclass(frozen=True, slots=True)
class WantedCharge:
    """What a call waits for (`fair_line.Attempt`). charge: charges it if there is room; raises Overloaded."""

    size: int
    charge: Callable[[], bool]
    is_held_back: bool = False  # it is refused instead

    def take(self) -> bool | None:
        return self.charge() or None

    def take_little(self) -> None:
        return None


class BodyReader:
    """Reads messages within what admission allows. wait_s: how long a caller waits for room at most.

    calls: all that are under way, also those whose answer waits to be read.
    """

    def __init__(self, admission: Admission, wait_s: float, calls: Collection[UnaryCall] = ()) -> None:
        self._admission = admission
        self._wait_s = wait_s
        self._calls = calls
        self._line = FairLine[bool](SharedPlaces(admission.max_requests, "requests that wait"))
        self._timer: asyncio.TimerHandle | None = None  # while somebody waits

    async def read(self, call: UnaryCall, source: ServerCall, announced: int | None) -> Body:
        """The message. announced: its size, as the client's metadata has it. Raises InvalidRequest, TooLarge or
        Overloaded."""
        admission = self._admission
        size = await source.next_size()
        expected = announced if size is None else size
        if size is not None and announced is not None and size > announced:
            raise _mismatch(announced, size)
        if expected is None:
            await self._reserve(call)
        elif expected > admission.max_message_bytes:
            raise admission.too_large(expected)
        else:
            await self._admit(call, source, expected, waits=size is not None)
        body = await source.read()
        if body is None:
            raise no_message()
        size = len(body)
        if size > admission.max_message_bytes:
            raise admission.too_large(size)
        if expected is None:
            call.settle(admission, size)
            self.wake()
        elif size > expected:
            raise _mismatch(expected, size)
        # A call that announced its size has sent it all: what else it may send is not looked for, since to ask for the
        # end of messages costs 5 % of a small call.
        if size != announced and await source.read() is not None:
            raise invalid("the call has a second message, exactly one is expected", "MANY_MESSAGES")
        return body

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return len(self._line)

    def wake(self) -> None:
        """Lets those in who wait, where something was given back."""
        self._line.wake()

    async def _admit(self, call: UnaryCall, source: ServerCall, size: int, waits: bool) -> None:
        """Charges a message of `size`. waits: nothing of it is here, so that it may wait for room, in its turn, and be
        charged an answer as large, which counts as a gradient's until the message is read.

        Raises Overloaded, after the time for waiting.
        """
        admission = self._admission
        whole = 2 * size if waits and size >= LARGE_ANSWER_BYTES else size

        def charge() -> bool:
            call.caller.require(whole)
            if not admission.has_room(whole):
                return False
            call.charge(admission, whole)
            return True

        wanted = WantedCharge(whole, charge)
        if self._line.at_once(wanted) if waits else charge():
            return
        call.caller.require(whole)
        if not waits and not self._make_room((call.sharer, whole)):
            raise admission.overloaded(size)
        try:
            async with asyncio.timeout(min(self._wait_s, source.deadline - time.monotonic())):
                await self._enter(call, wanted)
        except TimeoutError:
            raise admission.overloaded(size) from None

    async def _reserve(self, call: UnaryCall) -> None:
        """Charges the largest message. What was charged is given back when the call is over, whatever its end."""
        admission = self._admission
        size = admission.max_message_bytes

        def charge() -> bool:
            return call.reserve(admission)

        try:
            if self._line.at_once(WantedCharge(size, charge)):
                return
        except Overloaded:
            if not self._make_room((call.sharer, size)):
                raise

        def charge_patiently() -> bool:
            try:
                return charge()
            except Overloaded:  # what was pushed out has not given back yet what it holds
                return False

        await self._enter(call, WantedCharge(size, charge_patiently))

    async def _enter(self, call: UnaryCall, wanted: WantedCharge) -> None:
        """Waits for its turn. Raises what charging raises, and Overloaded where too many wait."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look_again)
        await self._line.enter(call.sharer, wanted, give_back=lambda _: None)

    def _look_again(self) -> None:
        """Somebody has waited for a while, perhaps for room that others hold beyond their share."""
        self._timer = None
        if len(self._line):
            self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._look_again)
            self._make_room()

    def _make_room(self, *newcomer: tuple[Sharer, int]) -> bool:
        """Pushes calls out for those that wait, or come, and are below their share. Whether any had to go."""
        admission, now = self._admission, time.monotonic()
        shares = FairShares(
            admission.max_bytes,
            admission.max_requests,
            (HeldCall(one, one.sharer, one.charged, one.stalled_since) for one in self._calls if one.charged >= 0),
            (*self._line.first_of_each(), *newcomer),
        )
        self._line.prefer(sharer for sharer, _ in shares.entitled())
        calls = shares.to_push_out(
            admission.max_bytes - admission.bytes, admission.max_requests - admission.requests, now - PATIENCE_S
        )
        pushed_out = [call.push_out(_pushed_out()) for call in calls]
        return any(pushed_out)


def _pushed_out() -> Overloaded:
    return Overloaded(
        f"others need the room that this caller holds beyond its share, and the call has waited for its client for"
        f" {PATIENCE_S:g} s",
        reason="OVERLOADED",
        metadata={"patience_s": PATIENCE_S},
        retry_after_s=RETRY_AFTER_S,
    )


def _mismatch(announced: int, size: int) -> InvalidRequest:
    return InvalidRequest(
        f"{REQUEST_BYTES} announced {announced} bytes, the message has {size}",
        reason="REQUEST_BYTES_MISMATCH",
        metadata={"announced_bytes": announced, "size_bytes": size},
    )

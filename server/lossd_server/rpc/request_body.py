"""Request body: the one message of a unary call. Charged before it is read, bounded in size, exactly one.

Where the front tells a message's size before it lets it in, the caller waits for room, with nothing of it here. Where
it cannot, the size that was announced is charged at once or refused, and the largest is reserved where none was.
"""

from __future__ import annotations

import asyncio
import time

from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES, Admission
from lossd_server.admission.waiting_line import WaitingLine
from lossd_server.call.contract import Body, ServerCall
from lossd_server.errors import InvalidRequest, invalid, no_message
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.wire.metadata import REQUEST_BYTES


class BodyReader:
    """Reads messages within what admission allows. wait_s: how long a caller waits for room at most."""

    def __init__(self, admission: Admission, wait_s: float) -> None:
        self._admission = admission
        self._wait_s = wait_s
        self._line = WaitingLine()

    async def read(self, call: UnaryCall, source: ServerCall, announced: int | None) -> Body:
        """The message. announced: its size, as the client's metadata has it. Raises InvalidRequest, TooLarge or
        Overloaded."""
        admission = self._admission
        size = await source.next_size()
        expected = announced if size is None else size
        if size is not None and announced is not None and size > announced:
            raise _mismatch(announced, size)
        if size is not None:
            await self._admit(call, size, source.deadline)
        elif expected is not None:
            call.admit(admission, expected)
        else:
            await self._reserve(call)
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

    def wake(self) -> None:
        """Lets those in who wait, where something was given back."""
        self._line.wake()

    async def _admit(self, call: UnaryCall, size: int, deadline: float) -> None:
        """Charges a message of `size` and an answer as large, in the order of arrival.

        Raises TooLarge; Overloaded after the time for waiting.
        """
        admission = self._admission
        # The answer's size is known once the message is read: until then it counts as a gradient's.
        whole = 2 * size if size >= LARGE_ANSWER_BYTES else size

        def take() -> bool | None:
            if not admission.has_room(whole):
                return None
            call.charge(admission, whole)
            return True

        if size > admission.max_message_bytes:
            raise admission.too_large(size)
        if self._line.at_once(take):
            return
        if len(self._line) >= admission.max_requests:
            raise admission.overloaded(size)
        try:
            async with asyncio.timeout(min(self._wait_s, deadline - time.monotonic())):
                await self._line.enter(take, give_back=lambda _: None)
        except TimeoutError:
            raise admission.overloaded(size) from None

    async def _reserve(self, call: UnaryCall) -> None:
        """Charges the largest message. What was charged is given back when the call is over, whatever its end."""
        admission = self._admission

        def take() -> bool | None:
            return call.reserve(admission) or None

        if self._line.at_once(take):
            return
        if len(self._line) >= admission.max_requests:
            raise admission.overloaded(admission.max_message_bytes)
        await self._line.enter(take, give_back=lambda _: None)


def _mismatch(announced: int, size: int) -> InvalidRequest:
    return InvalidRequest(
        f"{REQUEST_BYTES} announced {announced} bytes, the message has {size}",
        reason="REQUEST_BYTES_MISMATCH",
        metadata={"announced_bytes": announced, "size_bytes": size},
    )

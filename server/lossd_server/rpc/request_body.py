"""A call's one message: charged before it is read, bounded in size, exactly one."""

from __future__ import annotations

import asyncio
from collections import deque

import grpc.aio

from lossd_server.admission.byte_budget import Admission
from lossd_server.errors import InvalidRequest
from lossd_server.rpc.unary_call import UnaryCall
from lossd_server.wire.metadata import REQUEST_BYTES, Context


class BodyReader:
    """Reads messages within what admission allows."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._line: deque[asyncio.Future[None]] = deque()  # calls of unknown size, until one before them is read

    async def read(self, call: UnaryCall, context: Context, announced: int | None) -> bytes:
        """The message. Raises InvalidRequest, TooLarge or Overloaded."""
        admission = self._admission
        if announced is not None:
            call.admit(admission, announced)
        elif self._line or not call.reserve(admission):
            await self._reserve_in_turn(call)
        body = await context.read()
        if not isinstance(body, bytes):
            raise InvalidRequest("the call has no message, exactly one is expected", reason="NO_MESSAGE")
        size = len(body)
        if size > admission.max_message_bytes:
            raise admission.too_large(size)
        if announced is None:
            call.settle(admission, size)
            self.wake()
        elif size > announced:
            raise InvalidRequest(
                f"{REQUEST_BYTES} announced {announced} bytes, the message has {size}",
                reason="REQUEST_BYTES_MISMATCH",
                metadata={"announced_bytes": announced, "size_bytes": size},
            )
        # A call that announced its size has sent it all: what else it may send is not looked for, since to ask for the
        # end of messages costs 5 % of a small call.
        if size != announced and await context.read() is not grpc.aio.EOF:
            raise InvalidRequest("the call has a second message, exactly one is expected", reason="MANY_MESSAGES")
        return body

    def wake(self) -> None:
        """Lets the first of the line try again: something was given back."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _reserve_in_turn(self, call: UnaryCall) -> None:
        """Waits until those before it are read. Every way out of here wakes the next."""
        admission = self._admission
        if len(self._line) >= admission.max_requests:
            raise admission.overloaded(admission.max_message_bytes)
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            try:
                await turn
                if not call.reserve(admission):  # others are still being read, and will wake us
                    continue
            except BaseException:
                if not turn.cancelled():
                    self.wake()
                raise
            self.wake()
            return

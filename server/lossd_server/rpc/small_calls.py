"""Small calls: those beside admission. Few at once, small messages, and each wait for a client has its time."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from lossd_server.admission.shared_places import SharedPlaces
from lossd_server.call.contract import Body, Message, ServerCall
from lossd_server.call.identity import sharer_of
from lossd_server.errors import DeadlineOver, Overloaded, TooLarge, malformed, no_message
from lossd_server.rpc.dispatch import ServiceMethod

MOST_BYTES = 4096

MessageT = TypeVar("MessageT", bound=ProtobufMessage)


class SmallCalls:
    """most: calls at once, `what` in sentences. timeout_s: for a message to arrive, and for one to be taken."""

    def __init__(self, most: int, what: str, timeout_s: float) -> None:
        self._places = SharedPlaces(most, what)
        self._timeout_s = timeout_s

    def bounded(self, method: ServiceMethod) -> ServiceMethod:
        """The method, with a place for each of its calls until that is over."""

        async def handle(call: ServerCall) -> Message | None:
            task = asyncio.current_task()
            assert task is not None
            pushed_out: list[Overloaded] = []

            def give_up(error: Overloaded) -> None:
                pushed_out.append(error)
                task.cancel()

            sharer = sharer_of(call)
            self._places.enter(sharer, call, give_up)
            call.on_close(lambda: self._places.leave(sharer, call))
            try:
                return await method(call)
            except asyncio.CancelledError:
                if not pushed_out:
                    raise
                task.uncancel()
                raise pushed_out[0] from None

        return handle

    async def read(self, call: ServerCall, kind: type[MessageT]) -> MessageT:
        """The call's only message. Raises InvalidRequest, TooLarge beyond MOST_BYTES, DeadlineOver."""
        message = await self.read_next(call, kind)
        if message is None:
            raise no_message()
        return message

    async def read_next(self, call: ServerCall, kind: type[MessageT]) -> MessageT | None:
        """The call's next message; None once its client has sent all. Raises as `read`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                size = await call.next_size()
                if size is not None and size > MOST_BYTES:  # nothing more of it is let in
                    raise _too_large(size)
                body = await call.read()
        except TimeoutError:
            raise self._late("the message was not there", "BODY_TIMEOUT") from None
        return None if body is None else _parsed(body, kind)

    async def write(self, call: ServerCall, message: ProtobufMessage) -> None:
        """Sends one message of several. Raises DeadlineOver where its client does not take it.

        What is being written is left to the front then, which has to end it before it can end the call.
        """
        writing = asyncio.ensure_future(call.write(message.SerializeToString()))
        try:
            await asyncio.wait((writing,), timeout=self._timeout_s)
        except asyncio.CancelledError:
            writing.cancel()
            raise
        if not writing.done():
            call.on_close(writing.cancel)
            raise self._late("the answer was not read", "ANSWER_NOT_READ")
        await writing

    def _late(self, what: str, reason: str) -> DeadlineOver:
        bound = self._timeout_s
        return DeadlineOver(f"{what} after {bound:g} s", reason=reason, metadata={"max_body_s": bound})


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"the message has {size} bytes, this method takes {MOST_BYTES}",
        reason="MESSAGE_TOO_LARGE",
        metadata={"size_bytes": size, "max_message_bytes": MOST_BYTES},
    )


def _parsed(body: Body, kind: type[MessageT]) -> MessageT:
    if len(body) > MOST_BYTES:
        raise _too_large(len(body))
    try:
        return kind.FromString(bytes(body))
    except DecodeError:
        raise malformed(kind.DESCRIPTOR.full_name, len(body)) from None

"""Call of the contract, on a stream of an HTTP/2 connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from math import inf
from typing import Protocol

from lossd_server.call.contract import Body, Message, Metadata
from lossd_server.call.request_id import request_id_of
from lossd_server.errors import InvalidRequest
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.headers.request_head import RequestHead


class CallCarrier(Hashable, Protocol):
    """What a call asks of its connection."""

    def want(self, stream_id: int, whole: bool = True) -> None: ...
    def send(self, stream: CallStream, message: Message) -> None: ...
    def give_up(self, call: Http2Call) -> None: ...


class Http2Call:
    """`lossd_server.call.contract.ServerCall`. task: handles it. expired: its time is over, its client still there.

    moved_s: when it was answered, or its client last took something of what is queued for it.
    """

    __slots__ = (
        "_carrier",
        "_closed",
        "_fault",
        "_moved",
        "_reader",
        "_request_id",
        "_still_s",
        "_stream",
        "_writer",
        "connection",
        "deadline",
        "expired",
        "messages_in",
        "messages_out",
        "metadata",
        "method",
        "moved_s",
        "peer",
        "reset",
        "settled",
        "stream_id",
        "subject",
        "task",
    )
    _request_id: str

    def __init__(
        self, carrier: CallCarrier, stream_id: int, stream: CallStream, head: RequestHead, peer: str, subject: str = ""
    ) -> None:
        self.stream_id = stream_id
        self.method = head.method
        self.metadata: Metadata = head.metadata
        self.deadline = inf if head.timeout_s == inf else time.monotonic() + head.timeout_s
        self.peer = peer
        self.subject = subject
        self.connection: Hashable = carrier
        self.task: asyncio.Task[None] | None = None
        self.expired = self.reset = self.settled = False
        self.messages_in = self.messages_out = 0
        self.moved_s = 0.0
        self._carrier = carrier
        self._stream = stream
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._fault = ""
        self._moved, self._still_s = (-1, 0.0), 0.0
        self._closed: list[Callable[[], object]] | None = []

    @property
    def record(self) -> None:
        """None: whoever looks on has calls of its own around these."""

    @property
    def request_id(self) -> str:
        try:
            return self._request_id
        except AttributeError:  # few are asked for theirs
            self._request_id = request_id_of(self.metadata)
            return self._request_id

    async def next_size(self) -> int | None:
        reader = self._stream.reader
        while (size := reader.next_size) is None:
            self._check()
            if reader.ended:
                return None
            # The window may end within a message's prefix, and those before it have been taken since.
            self._carrier.want(self.stream_id, whole=False)
            await self._arrival()
        return size

    async def read(self) -> Body | None:
        reader = self._stream.reader
        body = reader.take()
        while body is None:
            self._check()
            if reader.ended:
                return None
            self._carrier.want(self.stream_id)
            await self._arrival()
            body = reader.take()
        self.messages_in += 1
        return body

    async def write(self, message: Message) -> None:
        stream = self._stream
        self.messages_out += 1
        self._carrier.send(stream, message)
        while stream.sender.queued:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def abandon(self) -> bool:
        self.reset = True
        self._carrier.give_up(self)
        return True

    def on_close(self, callback: Callable[[], object]) -> None:
        if self._closed is None:
            callback()
        else:
            self._closed.append(callback)

    # For its connection.

    def arrived(self, fault: str) -> None:
        """Something of its messages is here; fault: why nothing more is."""
        self._fault = self._fault or fault
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def left(self) -> None:
        """Something of what is queued for it was sent."""
        self.moved_s = time.monotonic()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def is_unread(self, now_s: float, timeout_s: float) -> bool:
        """Whether its answer has waited for too long for a client that does not read."""
        answered = self.task is None or self.task.done()
        return answered and min(self.deadline, self.moved_s + timeout_s) <= now_s

    def is_still(self, now_s: float, grace_s: float) -> bool:
        """Whether nothing of it has moved, in either direction, since `grace_s` ago as this was asked before."""
        moved = (self._stream.reader.came, self.moved_s)
        if moved != self._moved:
            self._moved, self._still_s = moved, now_s
        return self._still_s + grace_s <= now_s

    def close(self) -> None:
        """It is over. A second time nothing."""
        callbacks, self._closed = self._closed or (), None
        for callback in callbacks:
            callback()

    async def _arrival(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _check(self) -> None:
        if self._fault:
            raise InvalidRequest(self._fault, reason="MALFORMED_MESSAGE")

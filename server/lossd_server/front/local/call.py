"""Call of the contract, by a connection of the HTTP port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

from lossd_server.call.contract import Message
from lossd_server.call.request_id import request_id_of
from lossd_server.errors import no_message
from lossd_server.front.local.words import CallHead


class LocalCall:
    """`lossd_server.call.contract.ServerCall`. whole: set once its message was read. task: handles it."""

    def __init__(self, head: CallHead, reader: asyncio.StreamReader) -> None:
        self.method = head.method
        self.metadata = head.metadata
        self.deadline = time.monotonic() + head.timeout_s
        self.peer = head.peer
        self.subject = head.subject
        # Of the client, not of the port: its calls share what a connection has.
        self.connection: Hashable = head.peer
        self.request_id = request_id_of(head.metadata)
        self.settled = False
        self.messages_in = self.messages_out = 0
        self.whole = asyncio.Event()
        self.task: asyncio.Task[object] | None = None
        self._size = head.size
        self._reader = reader
        self._closed: list[Callable[[], object]] = []

    @property
    def record(self) -> None:
        """None: whoever looks on has calls of its own around these."""

    async def next_size(self) -> int | None:
        return None if self.messages_in else self._size

    async def read(self) -> bytes | None:
        if self.messages_in:
            return None
        self.messages_in = 1
        try:
            return await self._reader.readexactly(self._size)
        except asyncio.IncompleteReadError:
            raise no_message() from None
        finally:
            self.whole.set()

    async def write(self, message: Message) -> None:
        """Nothing: what streams is not called by HTTP."""
        raise NotImplementedError

    def abandon(self) -> bool:
        if self.task is not None:
            self.task.cancel()
        return True

    def on_close(self, callback: Callable[[], object]) -> None:
        self._closed.append(callback)

    def close(self) -> None:
        """It is over."""
        callbacks, self._closed = self._closed, []
        for callback in callbacks:
            callback()

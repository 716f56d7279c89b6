"""A front without a network: calls of the contract, made by a test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from math import inf

from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo

from lossd_server.call.contract import Message, Metadata, Routes, Status, whole_message
from lossd_server.call.record import CallRecord
from lossd_server.call.request_id import request_id_of


class MemoryCall:
    """One call: the messages that the client has sent, and those that it was sent."""

    def __init__(
        self,
        method: str,
        messages: Iterable[bytes] = (),
        metadata: Metadata = (),
        connection: Hashable = "memory",
        subject: str = "",
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.deadline = inf
        self.peer = "memory"
        self.connection: Hashable = connection
        self.subject = subject
        self.record: CallRecord | None = None
        self.request_id = request_id_of(metadata)
        self.sent: list[bytes] = []
        self.messages_in = 0
        self.settled = False
        self._messages = deque(messages)
        self._closed: list[Callable[[], object]] = []

    async def next_size(self) -> int | None:
        return len(self._messages[0]) if self._messages else None

    async def read(self) -> bytes | None:
        if not self._messages:
            return None
        self.messages_in += 1
        return self._messages.popleft()

    @property
    def messages_out(self) -> int:
        return len(self.sent)

    async def write(self, message: Message) -> None:
        self.sent.append(whole_message(message))
        await asyncio.sleep(0)

    def abandon(self) -> bool:
        self.close()
        return True

    def on_close(self, callback: Callable[[], object]) -> None:
        self._closed.append(callback)

    def close(self) -> None:
        for callback in self._closed:
            callback()


async def handled(routes: Routes, call: MemoryCall) -> Message | Status:
    """What the call ends with."""
    try:
        return await routes.methods.get(call.method, routes.unknown).handler(call)
    finally:
        call.close()


def reasons(status: Status) -> list[str]:
    """The reason of every ErrorInfo that a status has in its details."""
    found = []
    for key, value in status.trailers:
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    found.append(info.reason)
    return found

"""Call of the contract, by grpc.aio's servicer context."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TypeAlias
from urllib.parse import unquote

import grpc
import grpc.aio

from lossd_server.call.contract import Message, Metadata, Status, whole_message
from lossd_server.call.load_report import LoadReport
from lossd_server.call.request_id import request_id_of

Context: TypeAlias = "grpc.aio.ServicerContext[object, bytes]"

CODES = {code.value[0]: code for code in grpc.StatusCode}
ABORT_S = 1.0  # a client that reads nothing does not read its status either


class GrpcioCall:
    """`lossd_server.call.contract.ServerCall` by grpc.aio."""

    __slots__ = ("_context", "_load", "_request_id", "_written", "messages_in", "messages_out", "method", "settled")

    def __init__(self, method: str, context: Context, load: LoadReport) -> None:
        self.method = method
        self.messages_in = self.messages_out = 0
        self.settled = False
        self._context = context
        self._load = load
        self._request_id = ""
        self._written: asyncio.Event | None = None  # set, where a message is being written, when it has been

    @property
    def metadata(self) -> Metadata:
        found: Metadata = self._context.invocation_metadata() or ()  # type: ignore[assignment]  # its own tuple class
        return found

    @property
    def deadline(self) -> float:
        remaining: float | None = self._context.time_remaining()
        return inf if remaining is None else time.monotonic() + remaining

    @property
    def peer(self) -> str:
        """As the other front writes it: core's is "ipv6:%5B::1%5D:50051"."""
        kind, _, where = unquote(self._context.peer()).partition(":")
        return where.replace("[", "").replace("]", "") if kind in ("ipv4", "ipv6") else kind

    @property
    def subject(self) -> str:
        """Core has verified what it names here: it asks for no certificate otherwise."""
        names = self._context.auth_context().get("x509_common_name", ())
        return next(iter(names)).decode("utf-8", "replace") if names else ""

    @property
    def record(self) -> None:
        """None: whoever looks on has calls of its own around these."""

    @property
    def request_id(self) -> str:
        self._request_id = self._request_id or request_id_of(self.metadata)
        return self._request_id

    @property
    def connection(self) -> str:
        """The peer: over TCP each connection has its own. Those of a Unix socket are one to core, and share."""
        return self._context.peer()

    async def next_size(self) -> None:
        """Unknown: core lets a message in before anybody is asked."""

    async def read(self) -> bytes | None:
        body = await self._context.read()
        if not isinstance(body, bytes):
            return None
        self.messages_in += 1
        return body

    async def write(self, message: Message) -> None:
        self._written = written = asyncio.Event()
        self.messages_out += 1
        try:
            await self._context.write(whole_message(message))
        finally:
            self._written = None
            written.set()

    def abandon(self) -> bool:
        """What core was handed is its own."""
        return False

    def on_close(self, callback: Callable[[], object]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: callback())

    async def end(self, status: Status) -> None:
        """Ends the call with a status that is not OK; core resets a call whose client does not take it in time."""
        if self._written is not None:  # beside a message that is being written core takes no status
            try:
                await asyncio.wait_for(self._written.wait(), ABORT_S)
            except TimeoutError:
                raise asyncio.CancelledError from None
        with suppress(TimeoutError):
            await asyncio.wait_for(self.abort(status), ABORT_S)

    async def abort(self, status: Status) -> None:
        await self._context.abort(
            CODES[status.code], status.message, (*status.trailers, *self._load.trailers(status.code))
        )

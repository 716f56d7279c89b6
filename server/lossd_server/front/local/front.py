"""Front of the HTTP port: its calls, each by a connection of its own, from the one process that may make them.

Whoever connects says whose certificate it has seen. So the socket lies in a folder of this user alone, and the kernel
tells which process it is that has connected.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from contextlib import suppress
from typing import NamedTuple

from lossd_server.call.contract import Message, Routes, Status, whole_message
from lossd_server.front.local.call import LocalCall
from lossd_server.front.local.words import AnswerHead, receive_call, write_answer

HEAD_S = 10.0  # for a head to be here: it is written together with its connection's beginning
_CREDENTIALS = struct.Struct("3i")  # process, user, group

log = logging.getLogger(__name__)


class LocalSocket(NamedTuple):
    """path: where it is. pid: of the process whose calls are taken."""

    path: str
    pid: int


class LocalFront:
    """Made with the server's routes."""

    def __init__(self, routes: Routes, where: LocalSocket) -> None:
        self._routes = routes
        self._path, self._pid = where
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)  # that of the worker whose place this one takes
        self._server = await asyncio.start_unix_server(self._connected, self._path)

    async def stop(self, grace_s: float | None) -> None:
        """Calls under way have `grace_s` seconds to end, none for None."""
        if self._server is not None:
            self._server.close()
        if self._tasks and grace_s is not None:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # for what they closed to be closed

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if peer_pid(writer.get_extra_info("socket")) != self._pid:
                log.warning("a process that may not has connected to the HTTP port's socket")
                return
            async with asyncio.timeout(HEAD_S):
                head = await receive_call(reader)
            await self._handle(LocalCall(head, reader), reader, writer)
        except (OSError, TimeoutError) as error:
            log.debug("the HTTP port's connection ended", extra={"error": str(error)})
        finally:
            writer.close()

    async def _handle(self, call: LocalCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = self._routes.methods.get(call.method, self._routes.unknown)
        if method.streams:
            method = self._routes.unknown
        call.task = handling = asyncio.create_task(_handled(method.handler(call)))
        leaving = asyncio.create_task(_left(call, reader))
        try:
            await asyncio.wait((handling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not handling.done():  # nobody waits for it any more
                handling.cancel()
                await asyncio.wait((handling,))
            if handling.cancelled():
                return
            answer = handling.result()
            status, message = (answer, b"") if isinstance(answer, Status) else (Status(0), whole_message(answer))
            writer.write(write_answer(AnswerHead(status, len(message))) + message)
            await writer.drain()
        finally:
            handling.cancel()
            leaving.cancel()
            call.close()


async def _handled(handler: object) -> Message | Status:
    return await handler  # type: ignore[misc,no-any-return]  # an awaitable is no coroutine, which a task wants


async def _left(call: LocalCall, reader: asyncio.StreamReader) -> None:
    """Returns when the other side has gone."""
    await call.whole.wait()
    await reader.read(1)


def peer_pid(connection: socket.socket) -> int:
    """The process that has connected, as the kernel says."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[0])

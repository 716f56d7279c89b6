"""Calls of the HTTP port: sent to the server's processes in turn, by their sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

from lossd_server.call.contract import Status
from lossd_server.errors import DeadlineOver, GoingAway
from lossd_server.front.local.words import CallHead, receive_answer, write_call

# For an answer beyond its call's own time, after which the process is taken to stand still.
MARGIN_S = 1.0
RETRY_S = 1.0


class WorkerCalls:
    """sockets: of each process, in their order. None where losses are not offered here."""

    def __init__(self, sockets: Sequence[str]) -> None:
        self._sockets = sockets
        self._turn = count()

    async def call(self, head: CallHead, message: bytes) -> tuple[Status, bytes]:
        """How the call ended, and its answer. Raises GoingAway where no process takes it, or one is lost with it;
        DeadlineOver. Cancelled, it is given up there too."""
        reader, writer = await self._connection()
        try:
            async with asyncio.timeout(head.timeout_s + MARGIN_S):
                writer.write(write_call(head) + message)
                answer = await receive_answer(reader)
                return answer.status, await reader.readexactly(answer.size)
        except TimeoutError:
            raise DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED") from None
        except (OSError, asyncio.IncompleteReadError):
            raise GoingAway(
                "the server process that computed this has ended", reason="WORKER_LOST", retry_after_s=RETRY_S
            ) from None
        finally:
            writer.transport.abort()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the next process that takes one."""
        first = next(self._turn)
        for place in range(len(self._sockets)):
            try:
                return await asyncio.open_unix_connection(self._sockets[(first + place) % len(self._sockets)])
            except OSError:
                continue
        raise GoingAway(
            "no server process takes calls from here now: it starts, or stops",
            reason="NO_WORKER",
            retry_after_s=RETRY_S,
        )

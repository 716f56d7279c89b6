"""The awaitable client's connections in one event loop. See `balancing` for which a call takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from lossd.connection.aio_connection import Connection
from lossd.connection.balancing import LEARN_S, is_new, least_busy, wants_another
from lossd.errors import Error
from lossd.request.build import Call
from lossd.rpc.retry import Retry


class ConnectionPool:
    """One at first; more where several processes serve the address and calls are under way at once.

    may_be_several: False where no further connection could reach another process.
    """

    def __init__(self, connect: Callable[[], Connection], may_be_several: bool) -> None:
        self.all = [connect()]
        self._connect = connect
        self._may_be_several = may_be_several
        self._learning: asyncio.Task[None] | None = None
        self._tries = 0
        self._settled = False
        self._closed = False

    def small(self, failed: Connection | None) -> Connection:
        """For a small call; failed: the connection that it was tried with last."""
        return least_busy(self.all, failed)

    def large(self, call: Call) -> Connection:
        """For any other call: the connection in whose shared memory it lies, if any."""
        if len(self.all) > 1:
            for one in self.all:
                if one.sharing.holds(call):
                    return one
        return least_busy(self.all)

    def learn(self, connection: Connection) -> None:
        """Beside the calls: asks the server for what many calls at once need to know, and opens connections.

        connection: which carries such calls.
        """
        if self._learning is None and (connection.server is None or not self._settled):
            self._learning = asyncio.get_running_loop().create_task(self._learn(connection))
            self._learning.add_done_callback(self._learned)

    def _learned(self, _: asyncio.Task[None]) -> None:
        self._learning = None

    async def _learn(self, connection: Connection) -> None:
        with suppress(Error):  # the calls themselves say what is the matter
            workers = (await connection.known(Retry(LEARN_S))).workers
            workers = workers if self._may_be_several else 1
            while wants_another(len(self.all), self._in_flight, workers, self._tries):
                self._tries += 1
                await self._another()
            # No number of calls at once would open more.
            self._settled = not wants_another(len(self.all), workers, workers, self._tries)

    @property
    def _in_flight(self) -> int:
        return sum(one.in_flight for one in self.all)

    async def _another(self) -> None:
        another = self._connect()
        try:
            server = await another.known(Retry(LEARN_S))
            known = {one.server.instance_id for one in self.all if one.server is not None}
            if not self._closed and is_new(server.instance_id, known):
                self.all.append(another)
        finally:
            if another not in self.all:
                await another.close()

    async def close(self) -> None:
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        for one in self.all:
            await one.close()

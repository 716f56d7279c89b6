"""Connection pool: a client's connections to one address. See `balancing` for which a call takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from lossd.concurrency.tasks import Background, start_background, stop_background
from lossd.connection.aio_connection import Connection
from lossd.connection.balancing import ASKED_EACH, LEARN_S, MOST_ROUNDS, is_new, least_busy, wants_another
from lossd.errors import Error
from lossd.request.build import Call
from lossd.rpc.retry import Retry


class ConnectionPool:
    """One at first; more where several processes serve the address and calls are under way at once.

    may_be_several: False where no further connection could reach another process. servers: how many there
    are; where there are several, each connection reaches one process of each of them.
    """

    def __init__(self, connect: Callable[[], Connection], may_be_several: bool, servers: int = 1) -> None:
        self._connect = connect
        self._servers = servers
        self._may_be_several = may_be_several
        # Guards `all`, its calls under way, and who learns; never held while waiting.
        self._lock = Lock()
        self.all: tuple[Connection, ...] = (connect(),)
        self._background: Background | None = None
        self._learning = False
        self._tries = self._rounds = 0
        self._settled = not may_be_several
        self._closed = False

    @property
    def least_busy(self) -> Connection:
        return least_busy(self.all)

    def take(self, failed: Connection | None = None) -> Connection:
        """For a call, until it is left; failed: the connection that the call was tried with last."""
        with self._lock:
            connection = least_busy(self.all, failed)
            connection.in_flight += 1
            wants = connection.wants_server or (connection.in_flight > 1 and not self._settled)
            learns = wants and not self._learning
            if learns:
                self._learning = True
        if learns:
            # Beside the calls, which wait for none of it.
            self._background = start_background(lambda: self._learn(connection))
        return connection

    def take_sharing(self, call: Call) -> Connection:
        """As `take`: the connection in whose shared memory the call lies, if any."""
        holding = [one for one in self.all if one.sharing.holds(call)] if len(self.all) > 1 else []
        if not holding:
            return self.take()
        with self._lock:
            holding[0].in_flight += 1
        return holding[0]

    def leave(self, connection: Connection) -> None:
        with self._lock:
            connection.in_flight -= 1

    async def _learn(self, connection: Connection) -> None:
        """Asks the server what many calls at once need to know, and opens connections."""
        try:
            with suppress(Error):  # the calls themselves say what is the matter
                server = await connection.known(Retry(LEARN_S))
                workers = server.workers if self._may_be_several else 1
                heard = {server.instance_id}
                for _ in range(ASKED_EACH * (self._servers - 1)):  # they answer in turn, once they are connected to
                    if len(heard) < self._servers:
                        told = await connection.ask(Retry(LEARN_S))
                        heard.add(told.instance_id)
                        workers = max(workers, told.workers)
                self._rounds += 1
                all_heard = len(heard) == self._servers or self._rounds == MOST_ROUNDS
                while wants_another(len(self.all), self._in_flight, workers, self._tries):
                    self._tries += 1
                    workers = max(workers, await self._another())
                # No number of calls at once would open more.
                self._settled = all_heard and not wants_another(len(self.all), workers, workers, self._tries)
        finally:
            self._learning = False

    @property
    def _in_flight(self) -> int:
        return sum(one.in_flight for one in self.all)

    async def _another(self) -> int:
        """The processes of the server that it has reached."""
        another, added = self._connect(), False
        try:
            server = await another.known(Retry(LEARN_S))
            with self._lock:
                known = {one.server.instance_id for one in self.all if one.server is not None}
                if not self._closed and (self._servers > 1 or is_new(server.instance_id, known)):
                    self.all = (*self.all, another)
                    added = True
            return server.workers
        finally:
            if not added:
                await another.close()

    async def close(self) -> None:
        """Ends the calls of all of them. A second time does nothing."""
        with self._lock:
            self._closed = True
        if self._background is not None:
            await stop_background(self._background)
        for one in self.all:
            await one.close()

    def abandon(self) -> None:
        """Lets go of all of them at once, without waiting for any call; from any thread."""
        with self._lock:
            self._closed = True
        for one in self.all:
            one.abandon()

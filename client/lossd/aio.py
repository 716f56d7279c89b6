"""The asynchronous client: the methods of `lossd.Client`, to await."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import info, results
from lossd.aio_methods import Methods
from lossd.concurrency.tasks import iterate, run_blocking, sleep
from lossd.connection.aio_connection import Connection
from lossd.connection.aio_lifecycle import Lifecycle
from lossd.errors import Error, InvalidArgument
from lossd.info import ServerInfo
from lossd.options import Tensor, Transport
from lossd.request.build import Call, build
from lossd.results import Result
from lossd.routing.choose_transport import checked, is_small, taken
from lossd.routing.route import MOST_LOST, Route, report_finished, route
from lossd.rpc import protocol
from lossd.rpc.retry import Retry, deadline_s
from lossd.shared_memory import session
from lossd.streaming.aio_reconnecting_stream import ReconnectingStream
from lossd.streaming.exchange import Evaluation
from lossd.streaming.map_window import MapWindow

__all__ = ["Client"]


def __dir__() -> list[str]:
    return __all__


class Client(Methods, Lifecycle):
    """Computes losses on a server: `async with lossd.aio.Client("127.0.0.1:50051") as client: …`.

    address: `host:port`, `host` (port 50051), `[IPv6]:port`, `dns:///name:port` (round robin), `unix:path`, or
    "embedded": a server in this process. Without one: that of the environment's LOSSD_SERVER, else 127.0.0.1:50051.
    timeout: seconds for a call that names none; for one that streams, seconds without progress. connect_timeout: those
    for the first answer of all; a server that has answered before, and went away, is looked for until the timeout.
    max_response_bytes: the largest answer in one message, and what the server is told not to exceed.
    A client can be pickled and copied: the other has its address and options, and connections of its own.
    Cancelling a task that awaits a call cancels it on the server. Each event loop that uses the client has connections
    of its own. "embedded" blocks the constructor until its server is ready.
    """

    async def info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, device, limits and statistics of the server."""
        return info.read_info(await self._connection().ask(self._retry(timeout)))

    async def health(self, *, timeout: float = 5.0) -> bool:
        """Whether the server says that it serves: one attempt, so Unavailable where it cannot be reached."""
        attempt_s = self._retry(timeout).remaining_s()
        return protocol.is_serving(
            await self._connection().attempt(protocol.HEALTH, protocol.HEALTH_REQUEST, attempt_s)
        )

    def _mapped(
        self,
        method: str,
        items: Iterable[Any] | AsyncIterable[Any],
        options: Mapping[str, Any],
        window: int,
        errors: str,
        timeout: float | None,
        transport: Transport | None,
    ) -> AsyncIterator[Any]:
        idle_s = self._timeout_s if timeout is None else deadline_s(timeout)
        return self._map(MapWindow(method, options, window, errors), iterate(items), checked(transport), idle_s)

    async def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """An uninitialised array that the server can read and write where it lies, so that no call copies it.

        An ordinary one where there is no shared memory with the server, or no room in it.
        """
        shape = shape if isinstance(shape, tuple) else (shape,)
        for _ in range(MOST_LOST):
            connection = self._connection()
            try:
                regions, _ = connection.sharing.open(await connection.known(self._retry(None)))
                if regions is None:
                    break
                return regions.empty(shape, dtype)
            except Exception as error:
                if not session.may_go_otherwise(error):
                    raise
                if not session.is_lost(error):
                    break
                connection.forget()
        return np.empty(shape, dtype)

    async def _evaluate(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], timeout: float | None
    ) -> Result:
        start_s = time.perf_counter()
        asked, progress, options = taken(options)
        call, retry = build(method, *operands, **options), self._retry(timeout)
        if is_small(call, asked):
            result = await self._small(call, asked, retry, start_s)
            report_finished(call, progress)
            return result
        connections, lost = self._opened(), 0
        connection = connections.take_sharing(call)
        try:
            while True:
                way = await self._route(connection, call, asked, retry, lost)
                if way.cut is not None:
                    return await self._streamed(connection, Evaluation(way, start_s, progress), timeout)
                try:
                    answer = await connection.answer(call.rpc, way.call.body(), retry)
                    result = results.read_result(way.call, answer, time.perf_counter() - start_s)
                except BaseException as error:
                    way.ended(error)
                    if not way.is_lost(error):
                        raise
                    lost += 1
                    connection.forget()
                else:
                    way.ended(None)
                    report_finished(call, progress)
                    return result
        finally:
            connections.leave(connection)

    async def _small(self, call: Call, asked: Transport, retry: Retry, start_s: float) -> Result:
        """As often as it may be repeated; after a failure by another connection, if there is one."""
        failed: Connection | None = None
        while True:
            connections = self._opened()
            connection = connections.take(failed)
            try:
                return await connection.attempt_small(call, asked, retry, start_s)
            except Error as error:
                wait_s = retry.wait_s(error)
                failed = connection
            finally:
                connections.leave(connection)
            await sleep(wait_s)

    async def _activate(
        self, method: str, operand: Tensor, options: Mapping[str, Any], timeout: float | None
    ) -> Tensor:
        result = await self._evaluate(method, (operand,), options, timeout)
        return result.loss

    async def _streamed(self, connection: Connection, evaluation: Evaluation, timeout: float | None) -> Result:
        async with await self._open_stream(connection, timeout, self._timeout_s if timeout is None else inf) as stream:
            await stream.add(evaluation)
            while evaluation.outcome is None:
                await stream.take(wait=True)
        return evaluation.result()

    async def _map(
        self, window: MapWindow, items: AsyncIterator[Any], asked: Transport, idle_s: float
    ) -> AsyncIterator[Any]:
        connection = self._connection()
        async with await self._open_stream(connection, idle_s, idle_s) as stream:
            while True:
                while window.is_ready:
                    yield window.pop()
                wants = window.wants
                for evaluation in await stream.take(wait=not wants) if stream.is_busy else ():
                    await self._settle(connection, evaluation, asked, idle_s, stream)
                if wants:
                    await self._read(connection, window, items, asked, idle_s, stream)
                elif window.is_empty:
                    return

    async def _read(
        self,
        connection: Connection,
        window: MapWindow,
        items: AsyncIterator[Any],
        asked: Transport,
        idle_s: float,
        stream: ReconnectingStream,
    ) -> None:
        """The next item, on its way."""
        try:
            item = await anext(items)
        except StopAsyncIteration:
            window.exhausted = True
            return
        call = window.call(item)
        if call is None:
            return
        start_s = time.perf_counter()
        try:
            if is_small(call, asked):
                way = Route(call)
            else:
                call = await run_blocking(call.owned)
                way = await self._route(connection, call, asked, Retry(idle_s), 0)
        except InvalidArgument as error:
            window.fail(error)
            return
        evaluation = Evaluation(way, start_s)
        evaluation.read_now()
        window.add(evaluation)
        await stream.add(evaluation)

    async def _settle(
        self,
        connection: Connection,
        evaluation: Evaluation,
        asked: Transport,
        idle_s: float,
        stream: ReconnectingStream,
    ) -> None:
        """Sends again, without shared memory, what failed because the server does not know the memory."""
        if isinstance(evaluation.outcome, Error) and evaluation.route.is_lost(evaluation.outcome):
            connection.forget()
            evaluation.take(await self._route(connection, evaluation.route.original, asked, Retry(idle_s), MOST_LOST))
            await stream.add(evaluation)

    async def _open_stream(self, connection: Connection, timeout: float | None, idle_s: float) -> ReconnectingStream:
        retry = self._retry(timeout, bounded=idle_s == inf)
        server = await connection.known(retry)
        most = server.limits.max_message_bytes
        return ReconnectingStream(connection.start, connection.explain, retry, idle_s, most)

    @staticmethod
    async def _route(connection: Connection, call: Call, asked: Transport, retry: Retry, lost: int) -> Route:
        while True:
            server = await connection.known(retry)
            try:
                # It may copy large arrays.
                return await run_blocking(route, call, asked, server, connection.sharing, lost)
            except Error as error:
                if not session.is_lost(error):
                    raise
                lost += 1
                connection.forget()

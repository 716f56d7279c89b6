"""The asynchronous client: the methods of `lossd.Client`, to await."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import info
from lossd.aio_methods import Methods
from lossd.concurrency.tasks import iterate, run_blocking, sleep
from lossd.connection.aio_connection import Connection
from lossd.connection.aio_lifecycle import Lifecycle
from lossd.errors import Error, InvalidArgument, TooLarge
from lossd.fast_path.request_template import Form, call_of, recall
from lossd.info import ServerInfo
from lossd.options import Tensor, Transport
from lossd.request.build import Call, build
from lossd.request.conversion_cost import are_quick
from lossd.results import Result
from lossd.routing.choose_transport import SMALL_BYTES, checked, is_small, taken
from lossd.routing.route import MOST_LOST, Route, report_finished
from lossd.rpc import protocol
from lossd.rpc.retry import Retry, deadline_s
from lossd.rpc.server_limits import limits as limits_of
from lossd.streaming.aio_reconnecting_stream import ReconnectingStream
from lossd.streaming.evaluation import Evaluation, SmallEvaluation
from lossd.streaming.map_window import MapWindow
from lossd.v1 import service_pb2

__all__ = ["Client"]


def __dir__() -> list[str]:
    return __all__


class Client(Methods, Lifecycle):
    """Computes losses on a server: `async with lossd.aio.Client("127.0.0.1:50051") as client: …`.

    address: `host:port`, `host` (port 50051), `[IPv6]:port`, several of these with commas between, `dns:///name:port`,
    `ray://host:port` (HTTP port of Serve), `unix:path`, or "embedded": a server in this process. Calls go to several by
    their load. Without an address: that of the environment's LOSSD_SERVER, else 127.0.0.1:50051.
    timeout: seconds for a call that names none; for one that streams, seconds without progress. connect_timeout: those
    for the first answer of all; a server that has answered before, and went away, is looked for until the timeout.
    max_response_bytes: the largest answer in one message, and what the server is told not to exceed.
    retry: False raises Unavailable at once, for a caller who has another server to ask; Overloaded is repeated still.
    tls: True for an encrypted connection, which it is where a ca or cert is given. ca: file of the authorities that
    may have signed the server's certificate (default: the well-known ones). cert, key: files of this client's own
    certificate. token: shown with each call; without TLS to this host only. token_file: file of the token in its
    place, read for each call, so that it may be replaced. Where they are not given, LOSSD_CA, LOSSD_CERT, LOSSD_KEY and
    LOSSD_TOKEN or LOSSD_TOKEN_FILE are.
    A client can be pickled and copied: the other has its address and options, and connections of its own.
    Cancelling a task that awaits a call cancels it on the server. Each event loop that uses the client has connections
    of its own. "embedded" blocks the constructor until its server is ready.
    """

    async def info(self, *, timeout: float | None = None) -> ServerInfo:
        """Version, device, limits and statistics of the server."""
        if self._names:
            await self._look_up()
        return info.read_info(await self._connection().ask(self._retry(timeout)))

    async def health(self, *, timeout: float = 5.0) -> bool:
        """Whether the server says that it serves: one attempt, so Unavailable where it cannot be reached."""
        if self._names:
            await self._look_up()
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
        if self._names:
            await self._look_up()
        return await self._connection().empty(shape if isinstance(shape, tuple) else (shape,), dtype, self._retry(None))

    async def _evaluate(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], timeout: float | None
    ) -> Result:
        if self._names:
            await self._look_up()
        start_s = time.perf_counter()
        asked, progress, options = taken(options)
        call: Call | None = None
        form: Form | None = None
        filled = recall(method, operands, options, self._most_small(asked))
        if filled is not None:
            form, parts = filled
            body = b"".join(parts)
        else:
            call = await self._built(method, operands, options)
            if is_small(call, asked, self._small_bytes):
                form, body = call, call.body()
        retry, too_large = self._retry(timeout), None
        if form is not None:
            try:
                result = await self._small(form, body, asked, retry, start_s)
            except TooLarge as error:
                if asked != "auto":
                    raise
                too_large = error
            else:
                if progress is not None:
                    report_finished(call_of(form), progress)
                return result
        if call is None:
            call = await self._built(method, operands, options)
        connections = self._opened()
        connection = connections.take_sharing(call)
        try:
            if too_large is not None:
                # What it takes is asked, and remembered for the next ones.
                self._learn(await connection.known(retry))
            idle_s = self._timeout_s if timeout is None else inf
            return await connection.evaluate(Evaluation(Route(call), start_s, progress), asked, retry, idle_s)
        finally:
            connections.leave(connection)

    async def _built(self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any]) -> Call:
        if are_quick(operands, options):
            return build(method, *operands, **options)
        return await run_blocking(build, method, *operands, **options)

    def _most_small(self, asked: Transport) -> int:
        """Bytes that a small call's message may have, either way; 0 where it is to go otherwise."""
        return self._small_bytes if asked in ("auto", "unary") else 0

    async def _small(self, form: Form, body: bytes, asked: Transport, retry: Retry, start_s: float) -> Result:
        """The result of a call whose request is `body`.

        As often as it may be repeated; after a failure by another connection, if there is one.
        """
        failed: Connection | None = None
        while True:
            connections = self._opened()
            connection = connections.take(failed)
            try:
                return await connection.attempt_small(form, body, asked, retry, start_s)
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

    async def _map(
        self, window: MapWindow, items: AsyncIterator[Any], asked: Transport, idle_s: float
    ) -> AsyncIterator[Any]:
        if self._names:
            await self._look_up()
        connection = self._connection()
        retry = Retry(idle_s, self._lifetime, bounded=False)
        self._learn(await connection.known(retry))
        async with await connection.open_stream(retry, idle_s) as stream:
            while True:
                for result in window.ready():
                    yield result
                wants = window.wants
                for evaluation in await stream.take(wait=not wants) if stream.is_busy else ():
                    if isinstance(evaluation, Evaluation):
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
        """The next items, on their way: until there are results to look at."""
        most_bytes = self._most_small(asked)
        while window.wants:
            try:
                item = await anext(items)
            except StopAsyncIteration:
                window.exhausted = True
                return
            start_s = time.perf_counter()
            evaluation = window.repeated(item, most_bytes, start_s)
            if evaluation is None:
                evaluation = await self._evaluation(connection, window, item, asked, idle_s, start_s)
                if evaluation is None:
                    return
            window.add(evaluation)
            await stream.add(evaluation)
            if stream.has_news:
                return

    async def _evaluation(
        self, connection: Connection, window: MapWindow, item: Any, asked: Transport, idle_s: float, start_s: float
    ) -> SmallEvaluation | None:
        """The evaluation of an item, by the general way; None where it cannot be sent, which its place then says."""
        call = window.call(item) if window.is_quick(item) else await run_blocking(window.call, item)
        if call is None:
            return None
        if is_small(call, asked, self._small_bytes):
            return SmallEvaluation(call, [b"", call.body()], start_s)
        try:
            call = await run_blocking(call.owned)
            evaluation = Evaluation(await connection.route(call, asked, Retry(idle_s, self._lifetime)), start_s)
        except InvalidArgument as error:
            window.fail(error)
            return None
        await run_blocking(evaluation.read_now)
        return evaluation

    async def _settle(
        self,
        connection: Connection,
        evaluation: Evaluation,
        asked: Transport,
        idle_s: float,
        stream: ReconnectingStream,
    ) -> None:
        """Sends again what failed because the server does not know its shared memory: by another way, if it may."""
        way = evaluation.route
        if isinstance(evaluation.outcome, Error) and way.is_lost(evaluation.outcome):
            await connection.forget(way.regions)
            evaluation.retry = evaluation.retry or Retry(idle_s, self._lifetime)
            try:
                evaluation.take(await connection.route(way.original, asked, evaluation.retry, MOST_LOST))
            except Error as error:
                evaluation.outcome = error
            else:
                await stream.add(evaluation)

    def _learn(self, server: service_pb2.GetServerInfoResponse) -> None:
        """What is larger than that server takes is not sent in one message."""
        self._small_bytes = min(self._small_bytes, limits_of(server).max_message_bytes or SMALL_BYTES)

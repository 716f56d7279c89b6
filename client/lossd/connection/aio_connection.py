"""A connection to one server process: calls and their repetition, what is known of the server, shared memory."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lossd.concurrency.tasks import run_blocking, sleep
from lossd.connection.aio_channel import Channel
from lossd.errors import Error, InvalidArgument, TooLarge, Unavailable
from lossd.options import Transport
from lossd.request.build import Call
from lossd.results import Result, read_result
from lossd.routing.route import MOST_LOST, Route, report_finished, route
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.rpc.target import Target
from lossd.shared_memory.session import SharedMemorySession, is_lost, may_go_otherwise
from lossd.streaming.aio_reconnecting_stream import ReconnectingStream
from lossd.streaming.evaluation import Evaluation
from lossd.v1 import service_pb2

if TYPE_CHECKING:
    from lossd.shared_memory.arena import Arena


class Connection(Channel):
    """A channel with the memory that is shared through it, and the calls that go by the server's limits."""

    def __init__(self, target: Target, max_response_bytes: int, lifetime: protocol.Lifetime) -> None:
        super().__init__(target, max_response_bytes, lifetime)
        self.sharing = SharedMemorySession(target.balanced)

    async def answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        """As `attempt`, as often as it may be repeated."""
        while True:
            try:
                return await self.attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            await sleep(wait_s)

    async def ask(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server says of itself now."""
        return service_pb2.GetServerInfoResponse.FromString(await self.answer("GetServerInfo", b"", retry))

    async def known(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server said of itself; it is asked once."""
        server = self.server
        if server is None:
            server = self.server = await self.ask(retry)
        return server

    async def route(self, call: Call, asked: Transport, retry: Retry, lost: int = 0) -> Route:
        """The call's way. lost: how often its shared memory was unknown to the server. Raises as `route.route`.

        Where shared memory was asked for, it is waited for as long as why there is none may pass.
        """
        while True:
            server, regions = await self.known(retry), self.sharing.regions
            try:
                # It may copy large arrays.
                return await run_blocking(route, call, asked, server, self.sharing, self._max_response_bytes, lost)
            except Error as error:
                wait_s, passing = 0.0, isinstance(error, Unavailable)
                if is_lost(error):
                    lost += 1
                elif asked == "shared_memory":
                    wait_s, lost = retry.wait_s(error), 0
                else:
                    raise
            if passing:
                await self.forget(regions)
            await sleep(wait_s)

    async def forget(self, regions: Arena | None = None) -> None:
        """The server is not the one it was: what is known of it is asked again.

        regions: those that it did not know; nothing is forgotten where others have taken their place since.
        """
        if regions is None or self.sharing.regions is regions:
            self.server = None
            await run_blocking(self.sharing.lose, regions)

    async def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike, retry: Retry) -> npt.NDArray[Any]:
        """An uninitialised array, in shared memory if there is any with room in it."""
        for _ in range(MOST_LOST):
            known = None
            try:
                server = await self.known(retry)
                known, _ = await run_blocking(self.sharing.open, server)
                if known is None:
                    break
                return await run_blocking(known.empty, shape, dtype)
            except Exception as error:
                if not may_go_otherwise(error):
                    raise
                if not is_lost(error):
                    break
                await self.forget(known)
        return np.empty(shape, dtype)

    async def open_stream(self, retry: Retry, idle_s: float) -> ReconnectingStream:
        """A stream that is opened with its first evaluation. As `ReconnectingStream`."""
        server = await self.known(retry)
        return ReconnectingStream(self.start, self.explain, retry, idle_s, server.limits.max_message_bytes)

    async def evaluate(self, evaluation: Evaluation, asked: Transport, retry: Retry, idle_s: float) -> Result:
        """By the way that the server's limits allow; in blocks where a whole message turned out to be too large.

        idle_s: seconds that a stream may stand still; inf where `retry` bounds the whole.
        """
        call, lost = evaluation.call, 0
        too_large: TooLarge | None = None
        while True:
            try:
                way = await self.route(call, asked, retry, lost)
            except InvalidArgument:
                if too_large is None:
                    raise
                raise too_large from None  # it cannot be cut
            evaluation.take(way)
            if way.cut is not None:
                return await self._streamed(evaluation, retry, idle_s)
            try:
                result = await self._whole(way, retry, evaluation.start_s)
            except BaseException as error:
                way.ended(error)
                if way.is_lost(error):
                    lost += 1
                    await self.forget(way.regions)
                elif isinstance(error, TooLarge) and asked == "auto":
                    too_large, asked = error, "stream"
                    self.server = None  # it may have other limits than before
                else:
                    raise
            else:
                way.ended(None)
                report_finished(call, evaluation.progress)
                return result

    async def _whole(self, way: Route, retry: Retry, start_s: float) -> Result:
        """The result of a call in one message each way."""
        call = way.call
        body = await run_blocking(call.body) if call.nbytes > protocol.LARGE_BYTES else call.body()
        answer = await self.answer(call.rpc, body, retry)
        total_s = time.perf_counter() - start_s
        if len(answer) > protocol.LARGE_BYTES or way.copies_back:
            return await run_blocking(read_result, call, answer, total_s)
        return read_result(call, answer, total_s)

    async def _streamed(self, evaluation: Evaluation, retry: Retry, idle_s: float) -> Result:
        if idle_s < inf:
            retry = Retry(idle_s, self._lifetime, bounded=False)
        async with await self.open_stream(retry, idle_s) as stream:
            await stream.add(evaluation)
            while evaluation.outcome is None:
                await stream.take(wait=True)
        return evaluation.result()

    async def close(self) -> None:
        """Ends its calls and its shared memory. A second time does nothing."""
        await super().close()
        await run_blocking(self.sharing.lose)

    def abandon(self) -> None:
        """Lets go of both at once, without waiting for any call."""
        super().abandon()
        self.sharing.lose()

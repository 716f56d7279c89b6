"""The awaitable client's streams: tasks that send and receive, and opening again what was cut. See `stream`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any, Self

import grpc.aio

from lossd.errors import Error, Unavailable
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.streaming.exchange import MOST_TOGETHER, Evaluation, Exchange
from lossd.streaming.stream import MOST_RECEIVED, ResendPolicy

# Starts the RPC with its deadline, None for none.
Start = Callable[[float | None], Any]


class Pipe:
    """One Stream RPC."""

    def __init__(self, exchange: Exchange, call: Any) -> None:
        self._exchange = exchange
        self._call = call
        self._woken = asyncio.Event()
        self._received: asyncio.Queue[bytes | BaseException] = asyncio.Queue(MOST_RECEIVED)
        self._progress_s = time.monotonic()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._read())]

    @property
    def is_free(self) -> bool:
        """Whether the pipe would take a message now."""
        return not self._woken.is_set()

    def wake(self) -> None:
        self._woken.set()

    async def _send(self) -> None:
        try:
            while True:
                message = self._exchange.next_message()
                if message is None:
                    self._woken.clear()
                    await self._woken.wait()
                    continue
                self._woken.set()
                await self._call.write(message)
                self._progress_s = time.monotonic()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over: reading says how
        except Exception as error:
            # The caller's arrays could not be read.
            await self._received.put(error)

    async def _read(self) -> None:
        try:
            while (body := await self._call.read()) is not grpc.aio.EOF:
                self._progress_s = time.monotonic()
                await self._received.put(body)
            await self._received.put(Unavailable("the stream ended before its answers", reason="STREAM_ENDED"))
        except asyncio.CancelledError:
            # Closing the channel cancels its calls; only a task that is being cancelled itself wants to know.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._received.put(Unavailable("the stream was cancelled", reason="STREAM_ENDED"))
        except Exception as error:
            await self._received.put(error)

    async def receive(self, wait: bool, idle_s: float) -> bytes | None:
        """The next answer, None where there is none yet and `wait` is false. Raises what ended the stream."""
        since_s = time.monotonic()
        while self._received.empty():
            if not wait:
                return None
            left_s = max(since_s, self._progress_s) + idle_s - time.monotonic()
            if left_s <= 0:
                raise protocol.no_progress(idle_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left_s == inf else left_s):
                    return _body(await self._received.get())
        return _body(self._received.get_nowait())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class ResumingStream(ResendPolicy):
    """Evaluations on a stream, which is opened again when it is cut. As `lossd.streaming.stream.Link`."""

    def __init__(
        self,
        start: Start,
        explain: Callable[[BaseException], Error],
        retry: Retry,
        idle_s: float,
        max_message_bytes: int,
    ) -> None:
        super().__init__(explain, retry, idle_s, max_message_bytes)
        self._start = start
        self._pipe: Pipe | None = None

    async def add(self, evaluation: Evaluation) -> None:
        """The pipe takes it when this task next waits, with what came since; the first, and full messages, at once."""
        self._unanswered[evaluation] = None
        self._exchange.add(evaluation)
        if self._pipe is None:
            self._open()
        elif self._pipe.is_free:
            self._pipe.wake()
        if len(self._unanswered) == 1 or self._exchange.unsent >= MOST_TOGETHER:
            await asyncio.sleep(0)

    async def take(self, wait: bool) -> list[Evaluation]:
        """Evaluations that have ended since; raises Error where the stream is cut and stays so."""
        # What the caller did in between is no time in which the server stood still.
        self._retry.extend()
        while True:
            try:
                if self._pipe is None:
                    self._open()
                assert self._pipe is not None
                body = await self._pipe.receive(wait, self._idle_s)
                if body is None:
                    return []
                ended = self._exchange.receive(body, time.perf_counter())
            except (grpc.aio.AioRpcError, Error) as failure:
                self._gained(0)
                await self._again(self._explain(failure))
                continue
            ended = [evaluation for evaluation in ended if not await self._repeat(evaluation)]
            self._gained(len(ended))
            if ended or not wait:
                return ended

    def _open(self) -> None:
        try:
            call = self._start(self._deadline_s())
        except grpc.aio.UsageError:
            # The channel was closed by another task between these lines.
            raise protocol.closed_error() from None
        self._pipe = Pipe(self._exchange, call)

    async def _again(self, error: Error) -> None:
        """Waits, and starts from what is unanswered; raises `error` where it is no use."""
        wait_s = self._retry.wait_s(error)
        if self._pipe is not None:
            await self._pipe.close()
        self._pipe = None
        await asyncio.sleep(wait_s)
        self._exchange = Exchange(self._max_message_bytes, self._unanswered)

    async def _repeat(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation that failed alone is sent once more."""
        if isinstance(evaluation.outcome, Error):
            with suppress(Error):
                wait_s = self._retry.wait_s(evaluation.outcome)
                await asyncio.sleep(wait_s)
                evaluation.outcome = None
                await self.add(evaluation)
                return True
        del self._unanswered[evaluation]
        evaluation.ended()
        return False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pipe is not None:
            await self._pipe.close()
        for evaluation in self._unanswered:
            evaluation.ended()


def _body(received: bytes | BaseException) -> bytes:
    if isinstance(received, BaseException):
        raise received
    return received

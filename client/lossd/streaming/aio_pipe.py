"""The asynchronous client's Stream RPC: one task sends, another receives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

import grpc.aio

from lossd.errors import Unavailable
from lossd.rpc import protocol
from lossd.streaming.exchange import MOST_RECEIVED, MOST_TOGETHER, Exchange

# Starts the RPC of an exchange with its deadline, None for none.
Start = Callable[[Exchange, float | None], Any]


class Pipe:
    """One Stream RPC. Its tasks begin with it and end with `close`."""

    def __init__(self, exchange: Exchange, start: Start, timeout_s: float | None) -> None:
        self._exchange = exchange
        self._call = start(exchange, timeout_s)
        self._woken = asyncio.Event()
        self._received: asyncio.Queue[bytes | BaseException] = asyncio.Queue(MOST_RECEIVED)
        self._progress_s = time.monotonic()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._read())]

    async def wake(self) -> None:
        """There is something to send. It leaves when this task next waits, with what came since.

        The first, and what fills a message, leaves at once.
        """
        self._woken.set()
        if self._exchange.unanswered == 1 or self._exchange.unsent >= MOST_TOGETHER:
            await asyncio.sleep(0)

    async def _send(self) -> None:
        try:
            while True:
                if self._exchange.reads_file:
                    message = await asyncio.to_thread(self._exchange.next_message)
                else:
                    message = self._exchange.next_message()
                if message is None:
                    self._woken.clear()
                    await self._woken.wait()
                    continue
                await self._call.write(message)
                self._progress_s = time.monotonic()
                self._exchange.report_progress()
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
            await self._received.put(Unavailable("the stream ended before its answers", reason=protocol.STREAM_ENDED))
        except asyncio.CancelledError:
            # Closing the channel cancels its calls; only a task that is being cancelled itself wants to know.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._received.put(Unavailable("the stream was cancelled", reason=protocol.STREAM_ENDED))
        except Exception as error:
            await self._received.put(error)

    @property
    def has_news(self) -> bool:
        """Whether `receive` finds something without waiting."""
        return not self._received.empty()

    async def receive(self, wait_s: float, idle_s: float) -> bytes | None:
        """The next answer, None where none comes within `wait_s` seconds. Raises what ended the stream.

        DeadlineExceeded where nothing was sent and nothing came for `idle_s` seconds of waiting.
        """
        since_s = time.monotonic()
        while self._received.empty():
            now_s = time.monotonic()
            if since_s + wait_s <= now_s:
                return None
            idle_left_s = max(since_s, self._progress_s) + idle_s - now_s
            if idle_left_s <= 0:
                raise protocol.no_progress(idle_s)
            left_s = min(idle_left_s, since_s + wait_s - now_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if left_s == inf else left_s):
                    return _body(await self._received.get())
        return _body(self._received.get_nowait())

    async def close(self) -> None:
        """Ends the call, whether or not it is answered."""
        for task in self._tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _body(received: bytes | BaseException) -> bytes:
    if isinstance(received, BaseException):
        raise received
    return received

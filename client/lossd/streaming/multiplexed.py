"""Multiplexed stream: small calls share it while they are awaited. See `multiplex_policy` for when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc.aio

from lossd.errors import DeadlineExceeded, Error
from lossd.fast_path.request_template import Form
from lossd.results import Result
from lossd.streaming.evaluation import SmallEvaluation
from lossd.streaming.exchange import Exchange
from lossd.streaming.multiplex_policy import IDLE_S, LIFE_S

# Told once, when the stream is over: whether it failed, and whether it had answered anything.
Ended = Callable[[bool, bool], None]


class Awaited(SmallEvaluation):
    """An evaluation with the future that its answer, or its end without one, wakes."""

    __slots__ = ("woken",)

    def __init__(self, form: Form, body: bytes, start_s: float, woken: asyncio.Future[None]) -> None:
        super().__init__(form, [b"", body], start_s)
        self.woken = woken

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class SharedStream:
    """One Stream RPC without a deadline: each call has its own. is_open: whether it takes further calls."""

    def __init__(self, call: Any, max_message_bytes: int, ended: Ended) -> None:
        self.is_open = True
        self._call = call
        self._exchange = Exchange(max_message_bytes)
        self._ended = ended
        self._awaited: set[Awaited] = set()
        self._answered = False
        self._moved = True
        self._loop = asyncio.get_running_loop()
        self._unsent: asyncio.Future[None] | None = None
        self._until_s = self._loop.time() + LIFE_S
        self._idle = self._loop.call_later(IDLE_S, self._tick)
        self._tasks = [self._loop.create_task(self._send()), self._loop.create_task(self._read())]

    async def ask(self, form: Form, body: bytes, start_s: float, timeout_s: float) -> Result | None:
        """The result of a call, whose request is `body`; None where the stream ended without it.

        Raises the Error that it failed with alone.
        """
        awaited = Awaited(form, body, start_s, self._loop.create_future())
        self._awaited.add(awaited)
        self._exchange.add(awaited)
        self._moved = True
        if self._unsent is not None and not self._unsent.done():
            self._unsent.set_result(None)
        timer = self._loop.call_later(timeout_s, self._expire, awaited)
        try:
            await awaited.woken
        except asyncio.CancelledError:
            self._given_up(awaited)
            raise
        finally:
            timer.cancel()
        return None if awaited.outcome is None else awaited.result()

    def _expire(self, awaited: Awaited) -> None:
        if not awaited.woken.done():
            awaited.outcome = DeadlineExceeded("no answer within the call's time", reason="DEADLINE_EXCEEDED")
            awaited.wake()
            # What held this call up may hold up the next.
            self.is_open = False
            self._given_up(awaited)

    def _given_up(self, awaited: Awaited) -> None:
        """Nobody waits for its answer; where nobody waits for any, the server need not go on."""
        if awaited in self._awaited:
            self._awaited.remove(awaited)
            if not self._awaited:
                self._over(failed=False)

    async def _send(self) -> None:
        try:
            while True:
                message = self._exchange.next_message()
                if message is None:
                    # Calls that begin before this task runs again share a message.
                    self._unsent = self._loop.create_future()
                    await self._unsent
                else:
                    await self._call.write(message)
        except asyncio.CancelledError:
            self._over(failed=True)
            raise
        except Exception:
            self._over(failed=True)

    async def _read(self) -> None:
        try:
            while (body := await self._call.read()) is not grpc.aio.EOF:
                for awaited in self._exchange.receive(body, time.perf_counter()):
                    assert isinstance(awaited, Awaited)
                    self._awaited.discard(awaited)
                    awaited.wake()
                self._answered = True
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, Error):
            # Each call goes by itself now, and hears what is the matter.
            return
        finally:
            self._over(failed=True)

    def _tick(self) -> None:
        if not self._moved and not self._awaited:
            self._over(failed=False)
            return
        self._moved = False
        self.is_open = self.is_open and self._loop.time() < self._until_s
        self._idle = self._loop.call_later(IDLE_S, self._tick)

    def _over(self, failed: bool) -> None:
        """Ends the stream; whoever still waits is woken without an answer. A second time does nothing."""
        if self._call is None:
            return
        call, self._call, self.is_open = self._call, None, False
        self._idle.cancel()
        for task in self._tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()
        call.cancel()
        awaited, self._awaited = self._awaited, set()
        for one in awaited:
            one.wake()
        self._ended(failed, self._answered)

    async def close(self) -> None:
        self._over(failed=False)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

"""Reconnecting stream: opened again when it is cut; what is unanswered is then sent again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Self

import grpc

from lossd.concurrency.tasks import sleep
from lossd.errors import Error
from lossd.rpc.protocol import cannot_repeat
from lossd.rpc.retry import Retry
from lossd.streaming.aio_pipe import Pipe, Start
from lossd.streaming.exchange import Evaluation, Exchange


class ReconnectingStream:
    """Evaluations on a stream.

    start: starts the RPC. explain: the Error of what ended it. retry: the time for opening it again. idle_s: seconds
    that it may stand still, inf where `retry` bounds the whole. max_message_bytes: the server's, 0 where it names none.
    """

    def __init__(
        self,
        start: Start,
        explain: Callable[[BaseException], Error],
        retry: Retry,
        idle_s: float,
        max_message_bytes: int,
    ) -> None:
        self._start = start
        self._explain = explain
        self._retry = retry
        self._idle_s = idle_s
        self._max_message_bytes = max_message_bytes
        self._unanswered: dict[Evaluation, None] = {}
        self._exchange = Exchange(max_message_bytes)
        self._pipe: Pipe | None = None
        self._furthest = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything is unanswered."""
        return bool(self._unanswered)

    async def add(self, evaluation: Evaluation) -> None:
        """Sends it, after those before it."""
        self._unanswered[evaluation] = None
        self._exchange.add(evaluation)
        await self._opened().wake()

    async def take(self, wait: bool) -> list[Evaluation]:
        """Evaluations that have ended since; raises Error where the stream is cut and stays so."""
        # What the caller did in between is no time in which the server stood still.
        self._retry.extend()
        while True:
            try:
                body = await self._opened().receive(wait, self._idle_s)
                if body is None:
                    return []
                ended = self._exchange.receive(body, time.perf_counter())
            except (grpc.RpcError, Error) as failure:
                self._gained(0)
                await self._again(self._explain(failure))
                continue
            ended = [evaluation for evaluation in ended if not await self._repeat(evaluation)]
            self._gained(len(ended))
            if ended or not wait:
                return ended

    def _opened(self) -> Pipe:
        if self._pipe is None:
            # Without a deadline where standing still is what ends it.
            timeout_s = None if self._idle_s < inf else self._retry.remaining_s()
            self._pipe = Pipe(self._exchange, self._start, timeout_s)
        return self._pipe

    def _gained(self, ended: int) -> None:
        """Time for repeating begins anew where the stream came further than before, or an evaluation ended."""
        if ended or self._exchange.sent > self._furthest:
            self._furthest = 0 if ended else self._exchange.sent
            self._retry.extend()

    async def _again(self, error: Error) -> None:
        """Waits, and starts from what is unanswered; raises `error` where it is no use."""
        wait_s = self._retry.wait_s(error)
        if self._pipe is not None:
            await self._pipe.close()
        self._pipe = None
        if any(evaluation.spent for evaluation in self._unanswered):
            raise cannot_repeat(error)
        await sleep(wait_s)
        self._exchange = Exchange(self._max_message_bytes, self._unanswered)

    async def _repeat(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation that failed alone is sent once more."""
        if isinstance(evaluation.outcome, Error) and not evaluation.spent:
            with suppress(Error):
                wait_s = self._retry.wait_s(evaluation.outcome)
                await sleep(wait_s)
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

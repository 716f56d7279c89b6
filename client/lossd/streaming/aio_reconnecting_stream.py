"""Reconnecting stream: opened again when it is cut; what is unanswered is then sent again."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Self

import grpc

from lossd.concurrency.tasks import sleep
from lossd.errors import Error
from lossd.rpc.protocol import STREAM_ENDED, cannot_repeat, no_time_left
from lossd.rpc.retry import Retry
from lossd.streaming.aio_pipe import Pipe, Start
from lossd.streaming.evaluation import SmallEvaluation
from lossd.streaming.exchange import Exchange
from lossd.streaming.refused import Refused


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
        self._unanswered: dict[SmallEvaluation, None] = {}
        self._refused = Refused(retry)
        self._exchange = Exchange(max_message_bytes)
        self._pipe: Pipe | None = None
        self._furthest = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything is unanswered."""
        return bool(self._unanswered)

    @property
    def has_news(self) -> bool:
        """Whether `take` may find something without waiting."""
        pipe = self._pipe
        return (pipe is not None and pipe.has_news) or not self._refused.is_empty

    async def add(self, evaluation: SmallEvaluation) -> None:
        """Sends it, after those before it."""
        self._unanswered[evaluation] = None
        self._exchange.add(evaluation)
        await (self._pipe or self._opened()).wake()

    async def take(self, wait: bool) -> list[SmallEvaluation]:
        """Evaluations that have ended since; raises Error where the stream is cut and stays so."""
        # What the caller did in between is no time in which the server stood still.
        self._retry.extend()
        while True:
            for evaluation in self._refused.due():
                await self.add(evaluation)
            try:
                body = await self._opened().receive(self._refused.next_s() if wait else 0.0, self._idle_s)
                if body is None:
                    if wait:
                        continue  # a refused one is due
                    return []
                ended = self._exchange.receive(body, time.perf_counter())
            except (grpc.RpcError, Error) as failure:
                self._gained(0)
                await self._again(self._explain(failure))
                continue
            over = [evaluation for evaluation in ended if self._is_over(evaluation)]
            if over or not ended:  # a refusal is no progress
                self._gained(len(over))
            if over or not wait:
                return over

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
        if error.reason == STREAM_ENDED and not self._retry.remaining_s():
            raise no_time_left()  # a write that the deadline caught: gRPC says only that it broke off
        wait_s = self._retry.wait_s(error)
        if self._pipe is not None:
            await self._pipe.close()
        self._pipe = None
        if any(evaluation.spent for evaluation in self._unanswered):
            raise cannot_repeat(error)
        await sleep(wait_s)
        self._refused.clear()
        self._exchange = Exchange(self._max_message_bytes, self._unanswered)

    def _is_over(self, evaluation: SmallEvaluation) -> bool:
        """Whether an evaluation that ended is not to be sent once more."""
        if isinstance(evaluation.outcome, Error) and self._refused.take(evaluation):
            return False
        del self._unanswered[evaluation]
        evaluation.ended()
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pipe is not None:
            await self._pipe.close()
        for evaluation in self._unanswered:
            evaluation.ended()

"""The blocking client's streams: threads that send and receive, and opening again what was cut."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import Condition, Thread
from typing import Any, Self

import grpc

from lossd.errors import Error, Unavailable
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.streaming.exchange import Evaluation, Exchange

# Answers that wait to be looked at: more would hold more memory, fewer would stop the wire between two looks.
MOST_RECEIVED = 4

# Starts the RPC with its messages and its deadline, None for none.
Start = Callable[["Pipe", float | None], Any]


class Pipe:
    """One Stream RPC. gRPC's thread takes messages from here as an iterator; a thread of its own reads the answers."""

    def __init__(self, exchange: Exchange, start: Start, timeout_s: float | None) -> None:
        self._exchange = exchange
        self._changed = Condition()
        self._received: deque[bytes] = deque()
        self._waiting = False
        self._closed = False
        self._failure: BaseException | None = None
        self._progress_s = time.monotonic()
        self._call = start(self, timeout_s)
        Thread(target=self._read, name="lossd-stream", daemon=True).start()

    def wake(self) -> None:
        """There is something to send."""
        # Looked at without the lock: the sender says that it waits before it looks for something to send.
        if self._waiting:
            with self._changed:
                self._waiting = False
                self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            while True:
                self._progress_s = time.monotonic()
                message = None if self._closed else self._exchange.next_message()
                if message is not None:
                    return message
                with self._changed:
                    if self._closed:
                        raise StopIteration
                    self._waiting = True
                    if not self._exchange.has_unsent:
                        self._changed.wait()
                    self._waiting = False
        except StopIteration:
            raise
        except BaseException as error:
            # The caller's arrays could not be read: that is for the caller to hear, not for gRPC's log.
            self._end(error)
            raise StopIteration from None

    def _read(self) -> None:
        try:
            for body in self._call:
                self._progress_s = time.monotonic()
                with self._changed:
                    self._received.append(body)
                    self._changed.notify_all()
                    while len(self._received) >= MOST_RECEIVED and not self._closed:
                        self._changed.wait()
            self._end(Unavailable("the stream ended before its answers", reason="STREAM_ENDED"))
        except BaseException as error:
            self._end(error)

    def _end(self, failure: BaseException) -> None:
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def receive(self, wait: bool, idle_s: float) -> bytes | None:
        """The next answer, None where there is none yet and `wait` is false. Raises what ended the stream.

        DeadlineExceeded where nothing was sent and nothing came for `idle_s` seconds of waiting.
        """
        if not (wait or self._received or self._closed):
            return None
        since_s = time.monotonic()
        with self._changed:
            while not self._received:
                if self._failure is not None:
                    raise self._failure
                if not wait:
                    return None
                left_s = max(since_s, self._progress_s) + idle_s - time.monotonic()
                if left_s <= 0:
                    raise protocol.no_progress(idle_s)
                self._changed.wait(None if left_s == inf else left_s)
            body = self._received.popleft()
            self._changed.notify_all()
            return body

    def close(self) -> None:
        """Ends the call, whether or not it is answered."""
        if sys.is_finalizing():
            return  # the interpreter has stopped the other threads, whatever locks they held
        self._end(Unavailable("the stream was closed", reason="STREAM_ENDED"))
        self._call.cancel()


class ResendPolicy:
    """What both clients' links know: the evaluations that are not answered yet, and how far their stream has come.

    explain: the Error of what ended a stream. idle_s: how long a stream may stand still.
    """

    def __init__(
        self, explain: Callable[[BaseException], Error], retry: Retry, idle_s: float, max_message_bytes: int
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._explain = explain
        self._retry = retry
        self._idle_s = idle_s
        self._unanswered: dict[Evaluation, None] = {}
        self._exchange = Exchange(max_message_bytes)
        self._furthest = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything is unanswered."""
        return bool(self._unanswered)

    def _gained(self, ended: int) -> None:
        """Time for repeating begins anew where the stream came further than before, or an evaluation ended."""
        if ended or self._exchange.sent > self._furthest:
            self._furthest = 0 if ended else self._exchange.sent
            self._retry.extend()

    def _deadline_s(self) -> float | None:
        """Of a stream that is opened now: None where standing still is what ends it."""
        return None if self._idle_s < inf else self._retry.remaining_s()


class ResumingStream(ResendPolicy):
    """Evaluations on a stream, which is opened again when it is cut: what is unanswered is then sent again."""

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

    def add(self, evaluation: Evaluation) -> None:
        self._unanswered[evaluation] = None
        self._exchange.add(evaluation)
        if self._pipe is None:
            self._open()
        else:
            self._pipe.wake()

    def take(self, wait: bool) -> list[Evaluation]:
        """Evaluations that have ended since; raises Error where the stream is cut and stays so."""
        # What the caller did in between is no time in which the server stood still.
        self._retry.extend()
        while True:
            try:
                if self._pipe is None:
                    self._open()
                assert self._pipe is not None
                body = self._pipe.receive(wait, self._idle_s)
                if body is None:
                    return []
                ended = self._exchange.receive(body, time.perf_counter())
            except (grpc.RpcError, Error) as failure:
                self._gained(0)
                self._again(self._explain(failure))
                continue
            ended = [evaluation for evaluation in ended if not self._repeat(evaluation)]
            self._gained(len(ended))
            if ended or not wait:
                return ended

    def _open(self) -> None:
        try:
            self._pipe = Pipe(self._exchange, self._start, self._deadline_s())
        except ValueError:
            # grpc's word for a channel that was closed by another thread between these lines.
            raise protocol.closed_error() from None

    def _again(self, error: Error) -> None:
        """Waits, and starts from what is unanswered; raises `error` where it is no use."""
        wait_s = self._retry.wait_s(error)
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None
        time.sleep(wait_s)
        self._exchange = Exchange(self._max_message_bytes, self._unanswered)

    def _repeat(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation that failed alone is sent once more."""
        if isinstance(evaluation.outcome, Error):
            with suppress(Error):
                wait_s = self._retry.wait_s(evaluation.outcome)
                time.sleep(wait_s)
                evaluation.outcome = None
                self.add(evaluation)
                return True
        del self._unanswered[evaluation]
        evaluation.ended()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipe is not None:
            self._pipe.close()
        for evaluation in self._unanswered:
            evaluation.ended()

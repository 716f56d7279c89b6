"""The blocking client's Stream RPC: gRPC's thread sends, another receives."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from math import inf
from threading import TIMEOUT_MAX, Condition, Thread
from typing import Any, Self

from lossd.errors import Unavailable
from lossd.rpc import protocol
from lossd.streaming.exchange import MOST_RECEIVED, Exchange

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

    def is_settled(self) -> bool:
        """Whether all that was sent is answered."""
        return self._exchange.is_settled()

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
            self._exchange.report_progress()
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
                    if self._closed:
                        continue  # what the server says of an end that the caller's arrays have brought about
                    self._received.append(body)
                    self._changed.notify_all()
                    while len(self._received) >= MOST_RECEIVED and not self._closed:
                        self._changed.wait()
            self._end(Unavailable("the stream ended before its answers", reason=protocol.STREAM_ENDED))
        except BaseException as error:
            self._end(error)

    def _end(self, failure: BaseException) -> None:
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    @property
    def has_news(self) -> bool:
        """Whether `receive` finds something without waiting."""
        return bool(self._received) or self._closed

    def receive(self, wait_s: float, idle_s: float) -> bytes | None:
        """The next answer, None where none comes within `wait_s` seconds. Raises what ended the stream.

        DeadlineExceeded where nothing was sent and nothing came for `idle_s` seconds of waiting.
        """
        if not (wait_s or self.has_news):
            return None
        since_s = time.monotonic()
        with self._changed:
            while not self._received:
                if self._failure is not None:
                    raise self._failure
                now_s = time.monotonic()
                if since_s + wait_s <= now_s:
                    return None
                idle_left_s = max(since_s, self._progress_s) + idle_s - now_s
                if idle_left_s <= 0:
                    raise protocol.no_progress(idle_s)
                left_s = min(idle_left_s, since_s + wait_s - now_s)
                self._changed.wait(None if left_s == inf else min(left_s, TIMEOUT_MAX))
            body = self._received.popleft()
            self._changed.notify_all()
            return body

    def close(self) -> None:
        """Ends the call, whether or not it is answered."""
        if sys.is_finalizing():
            return  # the interpreter has stopped the other threads, whatever locks they held
        self._end(Unavailable("the stream was closed", reason=protocol.STREAM_ENDED))
        self._call.cancel()

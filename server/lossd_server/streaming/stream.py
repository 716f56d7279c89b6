"""The Stream RPC: reads a stream's messages as there is room for them, and writes what its session answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from lossd_server.admission.byte_budget import RETRY_AFTER_S, Admission
from lossd_server.admission.stream_budget import Reservation, StreamBudget, StreamsBudget
from lossd_server.errors import DeadlineOver, Overloaded, ServerError, TooLarge
from lossd_server.streaming.desk import Desk, going_away
from lossd_server.streaming.session import Session
from lossd_server.wire.metadata import Context

# What a stream may have in work before it is read on: two messages in any case, so that one is read while the other
# is computed; many, where they are small.
WINDOW_MESSAGES, WINDOW_BYTES, MOST_MESSAGES = 2, 8 << 20, 64
# Streams at once: each may have one message, the one that waits for room, beyond what admission allows.
MAX_STREAMS = 256
ABORT_S = 1.0  # a client that reads nothing does not read its status either

T = TypeVar("T")
Refuse = Callable[[str, Context, Exception], Awaitable[None]]
# Of a call: the largest message that its client takes, where it says so.
Bound = Callable[[Context], int | None]


class Streams:
    """All streams of a server. refuse: ends a call with an error; bound: what its client says of answers."""

    def __init__(self, admission: Admission, desk: Desk, idle_s: float, refuse: Refuse, bound: Bound) -> None:
        self._admission = admission
        self._desk = desk
        self._idle_s = idle_s
        self._refuse = refuse
        self._bound = bound
        self._room = StreamsBudget(admission)
        self._streams: set[Stream] = set()
        self._line: deque[asyncio.Future[None]] = deque()  # streams that wait for room, until something is given back
        self._closing = False
        self._none_left = asyncio.Event()

    async def handle(self, _: AsyncIterable[bytes], context: Context) -> None:
        """The RPC: from bytes to bytes."""
        stream = None
        try:
            stream = self._enter(context)
            await stream.serve()
        except asyncio.CancelledError:
            if stream is None or stream.error is None:
                raise
            stream.task.uncancel()
            await self._leave(stream, context, stream.error)
        except Exception as error:
            await self._leave(stream, context, error)
        finally:
            if stream is not None:
                stream.close()
                self._streams.discard(stream)
                if not self._streams:
                    self._none_left.set()

    @property
    def has_room(self) -> bool:
        """Whether no stream waits for room."""
        return not self._line

    async def room(self, account: StreamBudget, size: int) -> Reservation:
        """The charge of a message that has been read. Waits, in the order of arrival, until there is room."""
        charge = None
        while charge is None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.wake()
                raise
            charge = account.take(size)
        self.wake()
        return charge

    def too_large(self, size: int) -> TooLarge:
        return self._admission.too_large(size)

    def wake(self) -> None:
        """Lets the first stream in line try again: something was given back."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def expire(self, now: float) -> None:
        """Gives up, at `now` on time.monotonic, what has not gone on for too long. For a timer to call."""
        self.wake()
        for stream in list(self._streams):
            stream.expire(now, self._idle_s)

    async def drain(self) -> None:
        """Takes no more evaluations, and waits until those that are open have ended."""
        self._closing = True
        for stream in list(self._streams):
            stream.drain()
        if self._streams:
            await self._none_left.wait()

    def _enter(self, context: Context) -> Stream:
        if self._closing:
            raise going_away()
        if len(self._streams) >= MAX_STREAMS:
            raise Overloaded(
                f"the server has {len(self._streams)} streams, of at most {MAX_STREAMS}",
                reason="OVERLOADED",
                metadata={"streams": len(self._streams), "bound": MAX_STREAMS},
                retry_after_s=RETRY_AFTER_S,
            )
        stream = Stream(self, self._desk, self._room, context, self._bound(context))
        self._streams.add(stream)
        self._none_left.clear()
        return stream

    async def _leave(self, stream: Stream | None, context: Context, error: Exception) -> None:
        """Ends the call with `error`; core resets one whose client does not take it."""
        if stream is not None:
            stream.close()
            if not await stream.is_silent(ABORT_S):
                raise asyncio.CancelledError
        with suppress(TimeoutError):
            await asyncio.wait_for(self._refuse("Stream", context, error), ABORT_S)


class Stream:
    """One call. `error` is what it is to end with, set before its task is cancelled for it."""

    def __init__(
        self, streams: Streams, desk: Desk, room: StreamsBudget, context: Context, max_response_bytes: int | None
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.error: ServerError | None = None
        self._streams = streams
        self._context = context
        self._account = StreamBudget(room, self._changed)
        remaining: float | None = context.time_remaining()
        until = float("inf") if remaining is None else time.monotonic() + remaining
        self._max_message_bytes = desk.max_message_bytes
        self._session = Session(desk, self._send, max_response_bytes, until)
        self._out: deque[tuple[bytes, Reservation | None]] = deque()
        self._wanted = asyncio.Event()  # there is something to write
        self._given_back = asyncio.Event()
        self._written = asyncio.Event()  # everything has been
        self._written.set()
        self._writing_since = float("inf")
        self._read_since = 0.0  # when it was last held up; +∞ while it is
        self._closing = False
        self._over = False
        self._writer = asyncio.create_task(self._write())

    async def serve(self) -> None:
        """Reads until the client has sent all, then waits until all of it is answered."""
        context, account, session = self._context, self._account, self._session
        while True:
            while (account.messages >= WINDOW_MESSAGES and account.bytes >= WINDOW_BYTES) or (
                account.messages >= MOST_MESSAGES
            ):
                await self._held_up(self._change())
            body = await context.read()
            if not isinstance(body, bytes):
                break
            if len(body) > self._max_message_bytes:
                raise self._streams.too_large(len(body))
            charge = account.take(len(body)) if self._streams.has_room else None
            if charge is None:
                charge = await self._held_up(self._streams.room(account, len(body)))
            session.receive(body, charge, time.monotonic())
            del body, charge
        session.no_more()
        while session.live or not self._written.is_set():
            await self._change()

    def expire(self, now: float, idle_s: float) -> None:
        self._session.expire(now, idle_s, self._read_since)
        if self._writing_since + idle_s <= now:
            self._end(
                DeadlineOver(
                    f"the client has not read for {idle_s:g} s",
                    reason="STREAM_NOT_READ",
                    metadata={"max_stream_idle_s": idle_s},
                )
            )

    def drain(self) -> None:
        """Ends when nothing is open any more."""
        self._closing = True
        self._session.closing = True
        self._end_if_drained()

    def close(self) -> None:
        """Gives everything back. Idempotent."""
        self._over = True
        if self._writing_since == float("inf"):
            self._writer.cancel()
        self._session.abandon()
        self._account.close()
        self._out.clear()

    async def is_silent(self, timeout_s: float) -> bool:
        """After `close`: whether no message is being written, for beside one core takes no status."""
        done, _ = await asyncio.wait((self._writer,), timeout=timeout_s)
        self._writer.cancel()  # it keeps the call alive
        return bool(done)

    def _send(self, body: bytes, charge: Reservation | None) -> None:
        self._out.append((body, charge))
        self._written.clear()
        self._wanted.set()

    async def _write(self) -> None:
        """Writes for as long as the call lives. An error of its own ends the call."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._out:
                    body, charge = self._out.popleft()
                    self._writing_since = time.monotonic()
                    await self._context.write(body)
                    self._writing_since = float("inf")
                    if charge is not None:
                        charge.drop()
                    del body, charge
                    if self._over:
                        return
                self._written.set()
                self._given_back.set()
                if self._closing:
                    self._end_if_drained()
        except Exception:  # the call is over: core's task learns of it some other way, or not at all
            self.task.cancel()

    def _end_if_drained(self) -> None:
        if not self._session.live and self._written.is_set():
            self._end(going_away())

    def _end(self, error: ServerError) -> None:
        if self.error is None:
            self.error = error
            self.task.cancel()

    async def _held_up(self, wait: Awaitable[T]) -> T:
        """Waits, and remembers that it is not for the client."""
        self._read_since = float("inf")
        found = await wait
        self._read_since = time.monotonic()
        return found

    async def _change(self) -> None:
        self._given_back.clear()
        await self._given_back.wait()

    def _changed(self) -> None:
        self._given_back.set()
        self._streams.wake()

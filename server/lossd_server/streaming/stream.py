"""The Stream RPC: reads a stream's messages as there is room for them, and writes what its session answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import TypeVar

from lossd_server.admission.byte_budget import RETRY_AFTER_S, Admission
from lossd_server.admission.stream_budget import Reservation, StreamBudget, StreamsBudget
from lossd_server.admission.waiting_line import WaitingLine
from lossd_server.call.contract import Message, ServerCall
from lossd_server.errors import DeadlineOver, GoingAway, Overloaded, ServerError, TooLarge, shortage
from lossd_server.intake.intake import Intake, going_away
from lossd_server.streaming.session import Session
from lossd_server.wire import metadata

# What a stream may have in work before it is read on: two messages in any case, so that one is read while the other
# is computed; many, where they are small.
WINDOW_MESSAGES, WINDOW_BYTES, MOST_MESSAGES = 2, 8 << 20, 64
# Streams at once: each may have one message, the one that waits for room, beyond what admission allows.
MAX_STREAMS = 256

T = TypeVar("T")


class Streams:
    """All streams of a server. given_back: called when a stream gave something back, for others that wait for it."""

    def __init__(self, admission: Admission, intake: Intake, idle_s: float, given_back: Callable[[], object]) -> None:
        self._given_back = given_back
        self.line = WaitingLine()  # streams that wait for room, until something is given back
        self._admission = admission
        self._intake = intake
        self._idle_s = idle_s
        self._room = StreamsBudget(admission)
        self._streams: set[Stream] = set()
        self._none_left = asyncio.Event()

    async def handle(self, call: ServerCall) -> None:
        """The RPC: messages from bytes to bytes. Raises what the call is to end with."""
        stream = None
        try:
            stream = self._enter(call)
            await stream.serve()
        except asyncio.CancelledError:
            if stream is None or stream.error is None:
                raise
            stream.task.uncancel()
            raise self._intake.refused("Stream", stream.error) from None
        except Exception as error:
            raise self._intake.refused("Stream", error) from None
        finally:
            if stream is not None:
                stream.close()

    def too_large(self, size: int) -> TooLarge:
        return self._admission.too_large(size)

    def wake(self) -> None:
        """Something was given back."""
        self.line.wake()

    def gave_back(self) -> None:
        """A stream gave something back."""
        self.wake()
        self._given_back()

    def expire(self, now: float) -> None:
        """Gives up, at `now` on time.monotonic, what has not gone on for too long. For a timer to call."""
        self.wake()
        for stream in list(self._streams):
            stream.expire(now, self._idle_s)

    async def drain(self) -> None:
        """The intake is closed: waits until the evaluations that are open have ended."""
        for stream in list(self._streams):
            stream.end_if_drained()
        if self._streams:
            await self._none_left.wait()

    def _enter(self, call: ServerCall) -> Stream:
        self._intake.require_open()
        if len(self._streams) >= MAX_STREAMS and not self._make_room():
            raise Overloaded(
                f"the server has {len(self._streams)} streams, of at most {MAX_STREAMS}",
                reason="OVERLOADED",
                metadata={"streams": len(self._streams), "bound": MAX_STREAMS},
                retry_after_s=RETRY_AFTER_S,
            )
        stream = Stream(self, self._intake, self._room, call)
        self._streams.add(stream)
        self._none_left.clear()
        call.on_close(lambda: self._leave(stream))
        return stream

    def _make_room(self) -> bool:
        """Ends the stream that has been silent for longest, where that is long enough."""
        silent = min(self._streams, key=lambda one: one.silent_since)
        if silent.silent_since + self._idle_s > time.monotonic():
            return False
        silent.make_room(self._idle_s)
        return True

    def _leave(self, stream: Stream) -> None:
        stream.stop_writing()
        self._streams.discard(stream)
        if not self._streams:
            self._none_left.set()


class Stream:
    """One call. `error` is what it is to end with, set before its task is cancelled for it."""

    def __init__(self, streams: Streams, intake: Intake, room: StreamsBudget, call: ServerCall) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.error: ServerError | None = None
        self._streams = streams
        self._intake = intake
        self._call = call
        self._account = StreamBudget(room, self._changed)
        self._session = Session(intake, self._send, metadata.sizes(call.metadata)[1], call.deadline, self._end)
        self._out: deque[tuple[Message, Reservation | None]] = deque()
        self._wanted = asyncio.Event()  # there is something to write
        self._given_back = asyncio.Event()
        self._written = asyncio.Event()  # everything has been
        self._written.set()
        self._writing_since = inf
        self._read_since = 0.0  # when it was last held up; +∞ while it is
        self._heard = inf  # when it began to wait for a message; +∞ where it does not
        self._receiving_since = inf  # when the message that is being let in began to come
        self._over = False
        self._writer = asyncio.create_task(self._write())

    async def serve(self) -> None:
        """Reads until the client has sent all, then waits until all of it is answered."""
        call, account, session = self._call, self._account, self._session
        while True:
            while (account.messages >= WINDOW_MESSAGES and account.bytes >= WINDOW_BYTES) or (
                account.messages >= MOST_MESSAGES
            ):
                await self._held_up(self._change())
            self._heard = time.monotonic()
            size = await call.next_size()  # charged before it is let in, where the front can tell
            self._heard = time.monotonic()  # a message has begun: it is not silent
            charge = None if size is None else await self._charge(size)
            self._receiving_since = inf if charge is None else time.monotonic()
            body = await call.read()
            self._receiving_since = inf
            if body is None:
                break
            session.receive(body, charge or await self._charge(len(body)), time.monotonic())
            del body, charge
        self._heard = inf
        session.no_more()
        while session.live or not self._written.is_set():
            await self._change()

    async def _charge(self, size: int) -> Reservation:
        """The charge of a message that has been read, as soon as there is room for it."""
        if size > self._intake.max_message_bytes:
            raise self._streams.too_large(size)
        take, line = partial(self._account.take, size), self._streams.line
        charge = line.at_once(take)
        if charge is None:
            charge = await self._held_up(line.enter(take, Reservation.drop))
        return charge

    def expire(self, now: float, idle_s: float) -> None:
        self._session.expire(now, idle_s, self._read_since)
        if self._receiving_since + idle_s <= now:
            self._end(_cut_short(idle_s))
        if self._writing_since + idle_s <= now:
            self._end(
                DeadlineOver(
                    f"the client has not read for {idle_s:g} s",
                    reason="STREAM_NOT_READ",
                    metadata={"max_stream_idle_s": idle_s},
                )
            )

    @property
    def silent_since(self) -> float:
        """When its client last had something to do with it, on time.monotonic; +∞ where anything is open."""
        free = self._read_since < inf and not self._session.live and self._written.is_set()
        return self._heard if free and self.error is None else inf

    def make_room(self, idle_s: float) -> None:
        """Another stream needs the place of this one, which is silent."""
        self._end(_idle(idle_s))

    def end_if_drained(self) -> None:
        """For a server that takes no more evaluations: ends the call when nothing is open any more."""
        if not self._session.live and self._written.is_set():
            self._end(going_away())

    def close(self) -> None:
        """Gives everything back. Idempotent. A message that is being written is left to the front."""
        self._over = True
        if self._writing_since == inf:
            self._writer.cancel()
        self._session.abandon()
        self._account.close()
        self._out.clear()

    def stop_writing(self) -> None:
        """The call is over: its last message need not be taken any more."""
        self._writer.cancel()

    def _send(self, body: Message, charge: Reservation | None) -> None:
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
                    await self._call.write(body)
                    self._writing_since = inf
                    if charge is not None:
                        charge.drop()
                    del body, charge
                    if self._over:
                        return
                self._written.set()
                self._given_back.set()
                if self._intake.closing:
                    self.end_if_drained()
        except Exception as error:
            short = shortage(error)
            if short is not None:
                self._end(short)
            else:  # the call is over: the front's task learns of it some other way, or not at all
                self.task.cancel()

    def _end(self, error: ServerError) -> None:
        if self.error is None:
            self.error = error
            self.task.cancel()

    async def _held_up(self, wait: Awaitable[T]) -> T:
        """Waits, and remembers that it is not for the client."""
        self._read_since = inf
        found = await wait
        self._read_since = time.monotonic()
        return found

    async def _change(self) -> None:
        self._given_back.clear()
        await self._given_back.wait()

    def _changed(self) -> None:
        self._given_back.set()
        self._streams.gave_back()


def _cut_short(idle_s: float) -> DeadlineOver:
    sentence = f"the message that had begun was not there after {idle_s:g} s"
    return DeadlineOver(sentence, reason="BODY_TIMEOUT", metadata={"max_stream_idle_s": idle_s})


def _idle(idle_s: float) -> GoingAway:
    """Streams are few: one that says nothing is ended where another needs its place, and may come again."""
    return GoingAway(
        f"the stream had nothing open for {idle_s:g} s, and another needs its place",
        reason="STREAM_IDLE",
        metadata={"max_stream_idle_s": idle_s},
        retry_after_s=RETRY_AFTER_S,
    )

"""Streams: reads a stream's messages as there is room for them, and writes what its session answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from lossd_server.admission.byte_budget import LARGE_ANSWER_BYTES, Admission
from lossd_server.admission.fair_line import FairLine
from lossd_server.admission.stream_budget import Reservation, StreamBudget, WantedRoom
from lossd_server.admission.stream_shares import ConnectionShare, StreamsBudget
from lossd_server.call.contract import Message, ServerCall, message_bytes
from lossd_server.call.identity import sharer_of
from lossd_server.errors import ServerError, TooLarge, shortage
from lossd_server.intake.intake import Intake, going_away
from lossd_server.streaming.stream_places import has_place, makes_room, no_stream_place
from lossd_server.streaming.stream_session import MakeSession
from lossd_server.streaming.stream_times import NOT_READ, StreamTimes, idle
from lossd_server.streaming.time_slices import StepRunner, all_of
from lossd_server.wire import metadata
from lossd_server.wire.status import told

# What a stream may have in work before it is read on: two messages in any case, so that one is read while the other
# is computed; many, where they are small.
WINDOW_MESSAGES, WINDOW_BYTES, MOST_MESSAGES = 2, 8 << 20, 64
# Streams at once: each may have one message, the one that waits for room, beyond what admission allows.
MAX_STREAMS = 256
LAST_MESSAGE_S = 1.0  # for the one being written when a stream fails: a client that reads has taken it by then

T = TypeVar("T")


class Streams:
    """All streams of a server; open: those there are. given_back: called when a stream gave something back."""

    def __init__(self, admission: Admission, intake: Intake, idle_s: float, given_back: Callable[[], object]) -> None:
        self._given_back = given_back
        self.line = FairLine[Reservation]()  # streams that wait for room, until something is given back
        self._admission = admission
        self.intake = intake
        self._idle_s = idle_s
        self._room = StreamsBudget(admission)
        self.open: set[Stream] = set()
        self._none_left = asyncio.Event()

    async def handle(self, rpc: str, make_session: MakeSession, call: ServerCall) -> None:
        """An RPC: messages from bytes to bytes. Raises what the call is to end with."""
        stream = None
        try:
            stream = self._enter(call, make_session)
            await stream.serve()
        except asyncio.CancelledError:
            if stream is None or stream.error is None:
                call.settled = stream is not None and stream.is_settled
                raise
            stream.task.uncancel()
            await stream.finish_message()
            raise self.intake.refused(rpc, stream.error, call) from None
        except Exception as error:
            if stream is not None:
                await stream.finish_message()
            raise self.intake.refused(rpc, error, call) from None
        finally:
            if stream is not None:
                stream.close()

    def too_large(self, size: int) -> TooLarge:
        return self._admission.too_large(size)

    def wake(self) -> None:
        """Something was given back."""
        self.line.wake()
        self.line.wake_little()

    def gave_back(self) -> None:
        """A stream gave something back."""
        self.wake()
        self._given_back()

    def expire(self, now: float) -> None:
        """Gives up, at `now` on time.monotonic, what has not gone on for too long. For a timer to call."""
        self.wake()
        for stream in list(self.open):
            stream.expire(now, self._idle_s, bool(self.line) and self._room.is_above(stream.share))

    async def drain(self) -> None:
        """The intake is closed: waits until the evaluations that are open have ended."""
        for stream in list(self.open):
            stream.end_if_drained()
        if self.open:
            await self._none_left.wait()

    def _enter(self, call: ServerCall, make_session: MakeSession) -> Stream:
        self.intake.require_open()
        share, taken = self._room.begin(sharer_of(call), self._admission.callers.of_call(call.peer)), len(self.open)
        if not has_place(share, taken, MAX_STREAMS) and not self._make_room(share):
            self._room.end(share)
            raise no_stream_place(share, taken, MAX_STREAMS)
        stream = Stream(self, self._room, share, call, make_session)
        self.open.add(stream)
        self._none_left.clear()
        call.on_close(lambda: self._leave(stream))
        return stream

    def _make_room(self, share: ConnectionShare) -> bool:
        """Ends a stream that is silent, for the newest of `share`."""
        now = time.monotonic()
        if (silent := makes_room(self.open, share, now, self._idle_s)) is not None:
            silent.make_room(now)
        return silent is not None

    def _leave(self, stream: Stream) -> None:
        stream.stop_writing()
        self.open.discard(stream)
        if not self.open:
            self._none_left.set()


class Stream:
    """One call. `error` is what it is to end with, set before its task is cancelled for it."""

    def __init__(
        self, streams: Streams, room: StreamsBudget, share: ConnectionShare, call: ServerCall, make: MakeSession
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.error: ServerError | None = None
        self._streams = streams
        self._intake = intake = streams.intake
        self._call = call
        self.share = share
        self.account = StreamBudget(room, share, self._changed)
        self._steps, most = StepRunner(self._steps_ended), metadata.sizes(call.metadata)[1]
        self._session = make(intake, self._send, most, call, self._end, self._steps.go_on_with)
        self._out: deque[tuple[Message, Reservation | None]] = deque()
        self._wanted = asyncio.Event()  # there is something to write
        self._given_back = asyncio.Event()
        self._written = asyncio.Event()  # everything has been
        self._written.set()
        self._times = StreamTimes()
        self._over = False
        self._writer = asyncio.create_task(self._write())

    async def serve(self) -> None:
        """Reads until the client has sent all, then waits until all of it is answered."""
        call, account, session, times = self._call, self.account, self._session, self._times
        while True:
            while (account.messages >= WINDOW_MESSAGES and account.bytes >= WINDOW_BYTES) or (
                account.messages >= MOST_MESSAGES
            ):
                await self._held_up(self._change())
            times.listens(time.monotonic())
            size = await call.next_size()  # charged before it is let in, where the front can tell
            charge = None
            if size is not None:
                times.hears()
                charge = await self._charge(size)
                times.receives(size, time.monotonic())
            body = await call.read()
            times.received()
            if body is None:
                break
            charge = charge or await self._charge(len(body))
            await all_of(session.receive(body, charge, time.monotonic()))
            del body, charge
        await all_of(session.no_more())
        while self._is_busy:
            await self._change()

    def _steps_ended(self, error: Exception | None) -> None:
        self._given_back.set()
        if error is not None:
            self._end(told("Stream", error, self._call))

    async def _charge(self, size: int) -> Reservation:
        """The charge of a message, as soon as there is room for it and, where it is large, for an answer as large."""
        if size > self._intake.max_message_bytes:
            raise self._streams.too_large(size)
        wanted = WantedRoom(self.account, size, size if size < LARGE_ANSWER_BYTES else 2 * size)
        line = self._streams.line
        charge = line.at_once(wanted)
        if charge is None:
            charge = await self._held_up(line.enter(self.share.sharer, wanted, Reservation.drop))
        return charge

    def expire(self, now: float, idle_s: float, contended: bool) -> None:
        """contended: others wait for memory, of which its connection has more than its share."""
        self._session.expire(now, idle_s, self._times.read_since)
        error = self._times.overdue(now, idle_s, contended)
        if error is not None:
            self._end(error)

    @property
    def _is_busy(self) -> bool:
        """Whether anything is open, or has not left."""
        return not (self.is_settled and self._written.is_set())

    @property
    def is_settled(self) -> bool:
        """Whether nothing is open."""
        return not (self._session.live or self._steps)

    @property
    def silent_since(self) -> float:
        """When its client last had something to do with it, on time.monotonic; +∞ where anything is open."""
        return inf if self._is_busy or self.error is not None else self._times.silent_since

    def make_room(self, now: float) -> None:
        """Another stream needs the place of this one, which is silent."""
        self._end(idle(now - self.silent_since))

    def end_if_drained(self) -> None:
        """For a server that takes no more evaluations: ends the call when nothing is open any more."""
        if not self._is_busy:
            self._end(going_away())

    async def finish_message(self) -> None:
        """Waits for the message being written, behind which a status is read: not for long, nor for an idle reader."""
        self._over = True
        self._session.abandon()
        self._out.clear()
        if self._times.writing and (self.error is None or self.error.reason != NOT_READ):
            await asyncio.wait({self._writer}, timeout=LAST_MESSAGE_S)

    def close(self) -> None:
        """Gives everything back. Idempotent. A message that is being written is left to the front."""
        self._over = True
        if not self._times.writing:
            self._writer.cancel()
        self._session.abandon()
        self._steps.cancel()
        self.account.close()
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
                    self._times.writes(message_bytes(body), time.monotonic())
                    await self._call.write(body)
                    self._times.written()
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
        self._times.read_since = inf
        found = await wait
        self._times.read_since = time.monotonic()
        return found

    async def _change(self) -> None:
        self._given_back.clear()
        await self._given_back.wait()

    def _changed(self) -> None:
        self._given_back.set()
        self._streams.gave_back()

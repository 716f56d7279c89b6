"""HTTP/2 protocol of asyncio: drives a connection by a transport, and runs the calls that come in on it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

from lossd_server.call.contract import OK, Routes, RpcMethod, Status
from lossd_server.errors import DeadlineOver
from lossd_server.front.http2 import frames
from lossd_server.front.http2.call import Http2Call
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import CallBegun, CallReset, CallSent, MessagesCame, PingAnswered, RoomMade
from lossd_server.front.http2.frames import ErrorCode
from lossd_server.front.http2.headers.blocks import OK_TRAILERS, Heads, http_head, trailer_block
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.send_stream import Part
from lossd_server.wire.status import status_of, told

log = logging.getLogger(__name__)

# Received into, by one connection at a time: its bytes are taken before another receives.
SCRATCH_BYTES = 1 << 18
# Parts of less than this in all are joined: one buffer is written faster than many.
JOINED_BYTES = 1 << 16
# Asked when the end is announced: who answers has read the announcement.
END_PING = b"goes end"
PLAIN_TEXT = b"This is a gRPC server: POST gRPC messages (content-type: application/grpc) over HTTP/2.\n"


class Shared:
    """What all connections of a front have together. connections: those that are open."""

    def __init__(self, routes: Routes, limits: Http2Limits, max_connections: int) -> None:
        self.routes = routes
        self.limits = limits
        self.max_connections = max_connections
        self.heads: Heads = {}
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections: set[Http2Protocol] = set()
        self.closing = False


class Http2Protocol(asyncio.BufferedProtocol):
    """One connection of a client."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._connection = Http2Connection(shared.limits, shared.heads)
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Http2Call] = {}
        self._flushing = False
        self._direct = False  # what is received lies in a message's own memory
        self._opened_s = self._came_s = time.monotonic()
        self._pinged_s = 0.0
        self._peer = ""
        self.end_is_known = False

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        shared = self._shared
        if shared.closing or len(shared.connections) >= shared.max_connections:
            transport.close()
            return
        shared.connections.add(self)
        self._transport.set_write_buffer_limits(high=shared.limits.unsent_bytes)
        where = transport.get_extra_info("peername")
        self._peer = f"{where[0]}:{where[1]}" if isinstance(where, tuple) else "unix"
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        memory = self._connection.own_memory()
        self._direct = memory is not None
        return self._shared.scratch if memory is None else memory

    def buffer_updated(self, nbytes: int) -> None:
        self._came_s = now_s = time.monotonic()
        if self._direct:
            self._connection.received(nbytes, now_s)
        else:
            self._connection.receive(bytes(self._shared.scratch[:nbytes]), now_s)
        self._handle_events()
        if self._connection.closed:
            log.debug("connection ended", extra={"peer": self._peer})
            self._flush()
            self._transport.close()
        elif self._connection.outgoing.has_parts:
            self._flush_soon()

    def eof_received(self) -> bool:
        return False  # a client that sends no more is gone

    def pause_writing(self) -> None:
        self._connection.outgoing.paused = True

    def resume_writing(self) -> None:
        self._connection.outgoing.paused = False
        self._connection.outgoing.pump()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._connection.closed = True
        for call in list(self._calls.values()):
            self._abandon(call)

    # For the front.

    @property
    def calls(self) -> int:
        """Calls whose end has not left."""
        return len(self._calls)

    def announce_end(self) -> None:
        """Tells the client that the connection will end; `end_is_known` once it must have heard of it."""
        self._connection.go_away(last=False)
        self._connection.ping(END_PING)
        self._flush()

    def go_away(self) -> None:
        """Takes no further calls."""
        self._connection.go_away()
        self._flush()

    def close(self) -> None:
        """Ends the connection, whatever is under way; what was put together is still written."""
        self._flush()
        self._transport.close()

    def expire(self, now_s: float) -> None:
        """Gives up what takes too long, at `now_s` on time.monotonic. For a timer to call."""
        limits, connection = self._shared.limits, self._connection
        for call in list(self._calls.values()):
            assert call.task is not None
            if call.task.done():
                # Its answer waits for a client that does not read.
                if min(call.deadline, call.moved_s + limits.answer_timeout_s) <= now_s:
                    self.give_up(call)
            elif call.deadline <= now_s and not call.expired:
                call.expired = True
                call.task.cancel()
        if not connection.settings_acknowledged and self._opened_s + limits.settings_timeout_s <= now_s:
            connection.go_away(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS were not acknowledged")
            self.close()
        elif self._came_s + limits.keepalive_s <= now_s:
            if self._pinged_s < self._came_s:
                self._pinged_s = now_s
                connection.ping(bytes(frames.PING_BYTES))
                self._flush()
            elif self._pinged_s + limits.keepalive_timeout_s <= now_s:
                self._transport.abort()

    # For its calls.

    def want(self, stream_id: int) -> None:
        self._connection.want(stream_id)
        if self._connection.outgoing.has_parts:
            self._flush_soon()

    def send(self, stream: CallStream, message: bytes) -> None:
        outgoing = self._connection.outgoing
        outgoing.head(stream.sender)
        outgoing.message(stream.sender, message)
        self._handle_events()
        self._flush_soon()

    def give_up(self, call: Http2Call) -> None:
        """Its client hears of the end by a reset alone."""
        self._connection.reset(call.stream_id, ErrorCode.CANCEL)
        self._calls.pop(call.stream_id, None)
        call.close()
        self._flush_soon()

    # Calls.

    def _handle_events(self) -> None:
        events = self._connection.events
        if not events:
            return
        calls = self._calls
        for event in events:
            if type(event) is MessagesCame:
                call = calls.get(event.stream_id)
                if call is not None:
                    call.arrived(event.fault)
            elif type(event) is CallBegun:
                self._begin(event)
            elif type(event) is CallSent:
                self._sent(event.stream_id)
            elif type(event) is RoomMade:
                call = calls.get(event.stream_id)
                if call is not None:
                    call.left()
            elif type(event) is CallReset:
                call = calls.get(event.stream_id)
                if call is not None:
                    self._abandon(call)
            elif type(event) is PingAnswered:
                self.end_is_known = self.end_is_known or event.payload == END_PING
        events.clear()

    def _begin(self, event: CallBegun) -> None:
        stream_id, head = event
        stream = self._connection.streams.get(stream_id)
        if stream is None:
            return  # reset by what came behind it
        outgoing = self._connection.outgoing
        if head.http_status:
            outgoing.head(stream.sender, http_head(head.http_status, len(PLAIN_TEXT)))
            if not head.bodiless:
                outgoing.data(stream.sender, PLAIN_TEXT)
            outgoing.end(stream.sender, b"")
            return
        if head.error is not None:
            outgoing.end(stream.sender, trailer_block(status_of(told(head.method.rpartition("/")[2], head.error))))
            return
        call = Http2Call(self, stream_id, stream, head, self._peer)
        self._calls[stream_id] = call
        routes = self._shared.routes
        method = routes.methods.get(head.method, routes.unknown)
        call.task = self._loop.create_task(self._run(call, stream, method))

    async def _run(self, call: Http2Call, stream: CallStream, method: RpcMethod) -> None:
        try:
            answer = await method.handler(call)
        except asyncio.CancelledError:
            if not call.expired or call.reset:
                if call.reset:
                    call.close()
                    return
                self.give_up(call)
                raise
            answer = status_of(DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED"))
        if call.reset:
            call.close()
            return
        outgoing = self._connection.outgoing
        call.moved_s = time.monotonic()
        if answer == OK:
            outgoing.head(stream.sender)
            outgoing.end(stream.sender, OK_TRAILERS)
        elif isinstance(answer, Status):
            if not outgoing.fail(stream.sender, trailer_block(answer)):
                self.give_up(call)
        elif stream.sender.begun:
            outgoing.message(stream.sender, answer)
            outgoing.end(stream.sender, OK_TRAILERS)
        else:
            outgoing.answer(stream.sender, answer)
        self._handle_events()
        self._flush_soon()

    def _sent(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id, None)
        self._connection.ended(stream_id)
        if call is not None:
            call.close()

    def _abandon(self, call: Http2Call) -> None:
        """Nobody waits for it: its task hears of that, and it is closed once that has ended."""
        self._calls.pop(call.stream_id, None)
        call.reset = True
        task = call.task
        if task is None or task.done():
            call.close()
        else:
            task.cancel()

    # Output.

    def _flush_soon(self) -> None:
        """Once the loop has run what is ready: answers of one read leave in one write."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        outgoing = self._connection.outgoing
        while outgoing.has_parts and not self._transport.is_closing():
            self._write(outgoing.take())
            outgoing.pump()
            self._handle_events()

    def _write(self, parts: list[Part]) -> None:
        if len(parts) < 64 and sum(map(len, parts)) > JOINED_BYTES:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))

"""HTTP/2 protocol of asyncio: drives a connection by a transport, and runs the calls that come in on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from math import inf
from random import random
from typing import cast

from lossd_server.call.contract import Routes
from lossd_server.call.identity import peer_host, subject_of
from lossd_server.front.http2 import frames
from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.connection_calls import ConnectionCalls
from lossd_server.front.http2.connection_clock import ConnectionClock, Due
from lossd_server.front.http2.frames import ErrorCode
from lossd_server.front.http2.headers.blocks import Heads, TrailerBlocks
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.send_stream import Part
from lossd_server.front.http2.whole_calls import WholeCalls
from lossd_server.front.http2.windows.unclaimed import UnclaimedSum

log = logging.getLogger(__name__)

# Received into, by one connection at a time: its bytes are taken before another receives.
SCRATCH_BYTES = 1 << 15
# A read that begins more calls than this is followed by small ones, between which other connections have their turn,
# until one begins few: thousands of calls that are sent at once take seconds to be answered, or refused.
MANY_CALLS, FEW_CALLS, SMALL_READ_BYTES = 64, 32, 1 << 13
# After so many bytes in, or out, a connection lets the others have their turn: a small call waits about 0.2 ms for it.
TURN_BYTES = 1 << 19
# Parts of less than this in all are joined: one buffer is written faster than many.
JOINED_BYTES = 1 << 16
# HTTP/2 over TLS (RFC 9113, 3.2), and what a client is told that agreed on nothing, which is HTTP/1.1.
ALPN = "h2"
NO_ALPN = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"This is a gRPC server: it speaks HTTP/2 alone, which TLS agrees on by ALPN (h2).\n"
)
# Refused connections that are left open until their clients have said something, and for how long.
MOST_REFUSED, REFUSED_S = 64, 1.0
# Asked when the end is announced: who answers has read the announcement.
END_PING = b"goes end"


class Shared:
    """What all connections of a front have together. connections: those that are open. closing,
    closed: it takes no more of them, its end was announced; or all is over."""

    def __init__(self, routes: Routes, limits: Http2Limits, max_connections: int) -> None:
        self.routes = routes
        self.limits = limits
        self.max_connections = max_connections
        self.heads: Heads = {}
        self.trailers = TrailerBlocks()
        routes.load.follow(self.trailers.tell)
        self.unclaimed = UnclaimedSum(limits.unclaimed_bytes)
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.connections: set[Http2Protocol] = set()
        # Connections beyond the most, until their clients have said something; and since when.
        self.refused: deque[tuple[float, asyncio.Transport]] = deque()
        self.closing = self.closed = False
        self.whole_calls = WholeCalls(routes.at_once)

    def close_refused(self, until_s: float) -> None:
        """Those that were refused before `until_s`, on time.monotonic, and all beyond a few."""
        refused = self.refused
        while refused and (len(refused) > MOST_REFUSED or refused[0][0] <= until_s):
            refused.popleft()[1].abort()


class Http2Protocol(asyncio.BufferedProtocol):
    """One connection of a client."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._connection = Http2Connection(shared.limits, shared.heads, shared.trailers)
        self._loop = asyncio.get_running_loop()
        self._calls = ConnectionCalls(
            self._connection, shared.routes, shared.whole_calls, self._flush, self._flush_soon, self._pong
        )
        self._flushing = False
        self._direct = False  # what is received lies in a message's own memory
        self._crowded = True  # the last read began many calls, or there was none yet
        self._turn_left = TURN_BYTES  # to be read
        self._clock = ConnectionClock(shared.limits, time.monotonic(), random())
        self._unsent, self._unsent_since = 0, 0.0  # in the transport, and since when it has been so much

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        shared = self._shared
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != ALPN:
            self._connection.closed = True
            self._transport.write(NO_ALPN)
            self._transport.close()
            return
        if shared.closed:
            self.abort()
            return
        if shared.closing or len(shared.connections) >= shared.max_connections:
            self._refuse()
            return
        shared.connections.add(self)
        self._transport.set_write_buffer_limits(high=shared.limits.unsent_bytes)
        where = transport.get_extra_info("peername")
        self._calls.peer = f"{where[0]}:{where[1]}" if isinstance(where, tuple) else "unix"
        self._calls.subject = subject_of(transport.get_extra_info("peercert")) if tls is not None else ""
        self._flush()

    def _refuse(self) -> None:
        """Says why, and is closed once something came: bytes that are not read at the close undo what was said."""
        closing = self._shared.closing
        why = "the server is going away" if closing else "the server has as many connections as it takes"
        self._connection.go_away(ErrorCode.NO_ERROR if closing else ErrorCode.ENHANCE_YOUR_CALM, why)
        self._connection.closed = True
        self._flush()
        now_s = time.monotonic()
        self._shared.refused.append((now_s, self._transport))
        self._shared.close_refused(now_s - REFUSED_S)

    def get_buffer(self, sizehint: int) -> memoryview:
        memory = self._connection.own_memory()
        self._direct = memory is not None
        if memory is not None:
            return memory[: self._turn_left]
        return self._shared.scratch[:SMALL_READ_BYTES] if self._crowded else self._shared.scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._clock.came_s = now_s = time.monotonic()
        if self._direct:
            self._connection.received(nbytes, now_s)
        else:
            self._connection.receive(bytes(self._shared.scratch[:nbytes]), now_s)
        begun = self._calls.handle_events()
        self._crowded = begun > (FEW_CALLS if self._crowded else MANY_CALLS)
        self._turn_left -= nbytes
        if self._crowded or self._turn_left <= 0:
            self._turn_left = TURN_BYTES
            self._transport.pause_reading()  # else a loop may read on until the socket is empty
            self._loop.call_soon(self._read_on)
        if begun or self._calls:
            self._clock.called_s = now_s
        if not self._say_unclaimed():
            self._shared.unclaimed.relieve()
        if self._connection.closed:
            log.debug("connection ended", extra={"peer": self._calls.peer})
            self._flush()
            self._transport.close()
        elif self._connection.outgoing.has_parts:
            self._flush_soon()

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        return False  # a client that sends no more is gone

    def pause_writing(self) -> None:
        self._connection.outgoing.paused = True

    def resume_writing(self) -> None:
        self._connection.outgoing.paused = False
        self._calls.release()
        self._connection.outgoing.pump()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._shared.unclaimed.say(self, 0)
        self._connection.closed = True
        self._calls.abandon()

    # For the bound of what all connections let in.

    @property
    def caller(self) -> str:
        """Whose the connection is, as far as it tells: with whom it shares."""
        return self._calls.subject or peer_host(self._calls.peer)

    @property
    def unclaimed_bytes(self) -> int:
        """With what the transport holds and nobody is charged for any more."""
        size = self._connection.unclaimed_bytes
        return size if self._connection.outgoing.paused else size + self._transport.get_write_buffer_size()

    def shed(self, most_bytes: int) -> None:
        """Ends calls, or the connection, until no more than this is unclaimed."""
        self._connection.shed(most_bytes)
        self._calls.handle_events()
        self._flush()
        if self._connection.closed or self.unclaimed_bytes > most_bytes:
            self._transport.abort()

    def _say_unclaimed(self) -> bool:
        return self not in self._shared.connections or self._shared.unclaimed.say(self, self.unclaimed_bytes)

    # For the front.

    @property
    def calls(self) -> int:
        """Calls whose end has not left."""
        return len(self._calls)

    @property
    def end_is_known(self) -> bool:
        """Whether the client has heard that the connection will end."""
        return self._clock.known

    def announce_end(self) -> None:
        """Tells the client that the connection will end; `end_is_known` once it must have heard of it."""
        self._connection.go_away(last=False)
        self._connection.ping(END_PING)
        self._flush()

    def go_away(self) -> None:
        """Takes no further calls."""
        self._connection.go_away()
        self._flush()

    def abort(self) -> None:
        """Ends the connection, and nothing is written any more."""
        self._transport.abort()

    def close(self) -> None:
        """Ends the connection, whatever is under way; what was put together is still written."""
        self._flush()
        self._transport.close()

    def expire(self, now_s: float) -> None:
        """Gives up what takes too long, at `now_s` on time.monotonic. For a timer to call."""
        limits, connection, clock = self._shared.limits, self._connection, self._clock
        self._calls.expire(now_s, limits.answer_timeout_s, limits.age_grace_s if clock.is_last else inf)
        connection.end_those_that_go_on()
        if connection.outgoing.has_parts:
            self._flush_soon()
        unsent = self._transport.get_write_buffer_size() if connection.outgoing.paused else 0
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now_s
        due = clock.due(now_s, connection.settings_acknowledged, self.calls)
        if due is Due.LOST or (unsent and self._unsent_since + limits.answer_timeout_s <= now_s):
            self._transport.abort()
        elif due is Due.SETTINGS_TIMEOUT:
            connection.go_away(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS were not acknowledged")
            self.close()
        elif due is Due.PING:
            connection.ping(bytes(frames.PING_BYTES))
            self._flush()
        elif due is Due.ANNOUNCE:
            self.announce_end()
        elif due is Due.LAST:
            self.go_away()
        elif due is Due.CLOSE:
            self.close()

    def _pong(self, payload: bytes) -> None:
        self._clock.known = self._clock.known or payload == END_PING

    # Output.

    def _flush_soon(self) -> None:
        """Once the loop has run what is ready: answers of one read leave in one write."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        outgoing, left = self._connection.outgoing, TURN_BYTES
        while outgoing.has_parts and not self._transport.is_closing():
            if left <= 0:
                self._flush_soon()
                break
            left -= self._write(outgoing.take())
            outgoing.pump()
            self._calls.handle_events()
        if not outgoing.paused:
            self._calls.release()
        self._say_unclaimed()

    def _write(self, parts: list[Part]) -> int:
        """How many bytes that were."""
        size = sum(map(len, parts))
        if len(parts) < 64 and size > JOINED_BYTES:
            self._transport.writelines(parts)
        else:
            self._transport.write(b"".join(parts))
        return size

"""Calls of one HTTP/2 connection: begun by its events, run as tasks, and ended on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from lossd_server.call.contract import OK, Message, Routes, RpcMethod, Status
from lossd_server.errors import DeadlineOver
from lossd_server.front.http2.call import Http2Call
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import CallBegun, CallReset, CallSent, MessagesCame, PingAnswered, RoomMade
from lossd_server.front.http2.frames import ErrorCode
from lossd_server.front.http2.headers.blocks import ACCEPT_ENCODING, http_head
from lossd_server.front.http2.headers.request_head import RequestHead
from lossd_server.front.http2.whole_calls import WholeCalls, most_answer
from lossd_server.wire.status import status_of

ANSWERED = RequestHead("")  # of a call of which nothing but its answer is left
PLAIN_TEXT = b"This is a gRPC server: POST gRPC messages (content-type: application/grpc) over HTTP/2.\n"


class ConnectionCalls:
    """flush, flush_soon: have what was put together sent, now or once the loop has run what is ready. pong: told of
    each PING that the client answered. peer: for logs. subject: of the client's verified certificate, or ""."""

    def __init__(
        self,
        connection: Http2Connection,
        routes: Routes,
        whole_calls: WholeCalls,
        flush: Callable[[], object],
        flush_soon: Callable[[], object],
        pong: Callable[[bytes], object],
    ) -> None:
        self.peer = self.subject = ""
        self._connection = connection
        self._routes = routes
        self._whole_calls = whole_calls
        self._flush = flush
        self._flush_soon = flush_soon
        self._pong = pong
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Http2Call] = {}
        # Those whose end was handed to the transport, which has not taken it yet.
        self._leaving: list[Http2Call] = []

    def __len__(self) -> int:
        """Calls whose end has not left."""
        return len(self._calls) + len(self._leaving)

    def release(self) -> None:
        """What was handed to the transport has left: it is over for whoever is charged for it."""
        leaving, self._leaving = self._leaving, []
        for call in leaving:
            call.close()

    def expire(self, now_s: float, answer_timeout_s: float, grace_s: float) -> None:
        """Gives up those that take too long. grace_s: for one of which nothing moves, infinite for none."""
        for call in list(self._calls.values()):
            if call.is_unread(now_s, answer_timeout_s) or (grace_s < inf and call.is_still(now_s, grace_s)):
                self.give_up(call)
            elif call.deadline <= now_s and call.task is not None and not call.task.done() and not call.expired:
                call.expired = True
                call.task.cancel()

    def abandon(self) -> None:
        """The client is gone."""
        self.release()
        for call in list(self._calls.values()):
            self._abandon(call)

    # For the calls.

    def want(self, stream_id: int, whole: bool = True) -> None:
        self._connection.want(stream_id, whole)
        if self._connection.outgoing.has_parts:
            self._flush_soon()

    def send(self, stream: CallStream, message: Message) -> None:
        outgoing = self._connection.outgoing
        outgoing.head(stream.sender)
        outgoing.message(stream.sender, message)
        self.handle_events()
        self._flush_soon()

    def give_up(self, call: Http2Call) -> None:
        """Its client hears of the end by a reset alone."""
        self._connection.reset(call.stream_id, ErrorCode.CANCEL)
        self._calls.pop(call.stream_id, None)
        call.close()
        self._flush_soon()

    # For the protocol.

    def handle_events(self) -> int:
        """What the connection has found out since. How many calls have begun with it."""
        events = self._connection.events
        if not events:
            return 0
        begun = 0
        calls = self._calls
        for event in events:
            if type(event) is MessagesCame:
                call = calls.get(event.stream_id)
                if call is not None:
                    call.arrived(event.fault)
            elif type(event) is CallBegun:
                begun += 1
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
                self._pong(event.payload)
        events.clear()
        return begun

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
            call = Http2Call(self, stream_id, stream, head, self.peer, self.subject)
            status = status_of(head.error, call)
            self._routes.refused(call, status)
            outgoing.end(stream.sender, ACCEPT_ENCODING + outgoing.trailers.of(status))
            return
        if stream.reader.only is not None or not stream.reader.has_begun:
            self._whole_calls.add(self, stream, head)
        else:
            self.begin_call(stream, head)

    # For whole calls.

    def takes(self, stream: CallStream, message_bytes: int) -> bool:
        """Whether nothing will hold the answer to such a message back: else it waits as any call's."""
        return self._connection.outgoing.takes(stream.sender, most_answer(message_bytes))

    def begin_call(self, stream: CallStream, head: RequestHead) -> None:
        """Hands a call to its handler."""
        stream_id = stream.sender.stream_id
        if self._connection.closed or self._connection.streams.get(stream_id) is not stream:
            return  # reset by now
        call = self._calls[stream_id] = Http2Call(self, stream_id, stream, head, self.peer, self.subject)
        routes = self._routes
        method = routes.methods.get(head.method, routes.unknown)
        call.task = self._loop.create_task(self._run(call, stream, method))

    def answer_whole(self, stream: CallStream, answer: bytes) -> None:
        """The answer to a call that has no handler."""
        stream_id = stream.sender.stream_id
        if self._connection.closed or self._connection.streams.get(stream_id) is not stream:
            return
        self._connection.outgoing.answer(stream.sender, answer)
        if stream.sender.queued:  # it has its time to leave, as others have
            call = self._calls[stream_id] = Http2Call(self, stream_id, stream, ANSWERED, self.peer)
            call.moved_s = time.monotonic()

    def flush(self) -> None:
        """Has what was put together written now."""
        self.handle_events()
        self._flush()

    # Of one call.

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
            answer = status_of(DeadlineOver("the call's time is over", reason="DEADLINE_EXCEEDED"), call)
        if call.reset:
            call.close()
            return
        outgoing = self._connection.outgoing
        call.moved_s = time.monotonic()
        if answer == OK:
            outgoing.head(stream.sender)
            outgoing.end(stream.sender, outgoing.trailers.ok)
        elif isinstance(answer, Status):
            if not outgoing.fail(stream.sender, outgoing.trailers.of(answer)):
                self.give_up(call)
        elif stream.sender.begun or not isinstance(answer, bytes):
            outgoing.head(stream.sender)
            outgoing.message(stream.sender, answer)
            outgoing.end(stream.sender, outgoing.trailers.ok)
        else:
            outgoing.answer(stream.sender, answer)
        self.handle_events()
        self._flush_soon()

    def _sent(self, stream_id: int) -> None:
        call = self._calls.pop(stream_id, None)
        self._connection.ended(stream_id)
        if call is not None:
            self._leaving.append(call)
            self._flush_soon()

    def _abandon(self, call: Http2Call) -> None:
        """Nobody waits for it: its task hears of that, and it is closed once that has ended."""
        self._calls.pop(call.stream_id, None)
        call.reset = True
        task = call.task
        if task is None or task.done():
            call.close()
        else:
            task.cancel()

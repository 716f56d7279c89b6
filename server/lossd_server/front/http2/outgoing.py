"""Outgoing half of an HTTP/2 connection: frames that are to be sent, and what waits for the peer's windows.

Streams with something queued take turns, a frame each, so that one whose answer is not read stops no other.
"""

from __future__ import annotations

from collections import OrderedDict

from lossd_server.call.contract import Message
from lossd_server.front.http2 import frames
from lossd_server.front.http2.events import CallSent, Event, RoomMade
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode
from lossd_server.front.http2.headers.blocks import NO_TABLE, RESPONSE_HEAD, TrailerBlocks
from lossd_server.front.http2.message_reader import PREFIX_BYTES
from lossd_server.front.http2.send_stream import Part, SendStream

# The largest frame that we send, whatever the peer takes: between two of them other streams have their turn.
FRAME_BYTES = 1 << 18
# What is put together at once: it is written before there is more, and the transport says what it takes.
MOST_AT_ONCE_BYTES = 2 * FRAME_BYTES
_HEAD = len(RESPONSE_HEAD)
# Of an answer in one go, beside its message and its trailers.
_ANSWER_BYTES = 3 * frames.HEADER_BYTES + _HEAD + PREFIX_BYTES
_ENDS = frames.END_HEADERS | frames.END_STREAM


class Outgoing:
    """events: where what was sent is told. trailers: of all connections. paused: the transport takes nothing for now;
    what is queued waits. unread: bytes of frames that no window holds back, written since it takes nothing.
    data_frames: sent so far.
    """

    def __init__(self, events: list[Event], trailers: TrailerBlocks) -> None:
        self._events = events
        self.trailers = trailers
        self._parts: list[Part] = []
        self._size = 0  # of the parts
        self._window = self.first_window = frames.FIRST_WINDOW_BYTES
        self.frame_bytes = frames.LEAST_FRAME_BYTES
        # Streams that may send, whose turn is next first. Those whose window is closed wait for `resume` elsewhere, so
        # that nothing is looked at in vain whenever a window grows.
        self._waiting: OrderedDict[int, SendStream] = OrderedDict()
        self.paused = False
        self.unread = 0
        self.data_frames = 0
        # That we keep no table for compression: whether it was asked for, and whether it was said.
        self._table_shrunk, self._table_announced = False, True

    def write(self, part: bytes) -> None:
        """A frame that no window holds back."""
        self._put(part)
        self.unread = self.unread + len(part) if self.paused else 0

    def take(self) -> list[Part]:
        """What is to be sent now."""
        parts, self._parts, self._size = self._parts, [], 0
        return parts

    def _put(self, *parts: Part) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))

    def takes(self, sender: SendStream, size: int) -> bool:
        """Whether so many bytes could leave now: the peer allows it, and nothing waits for it to take more."""
        return not self.paused and not self._waiting and size <= min(self._window, sender.window)

    @property
    def has_parts(self) -> bool:
        return bool(self._parts)

    def answer(self, sender: SendStream, message: bytes) -> None:
        """The only message of a call that ends well: head, message and trailers in one go, where the windows allow."""
        size, ok = len(message) + PREFIX_BYTES, self.trailers.ok
        at_once = size <= self._window and size <= sender.window and size <= self.frame_bytes
        if not at_once or self.paused or sender.queued or not self._table_announced:
            self.head(sender)
            self.message(sender, message)
            self.end(sender, ok)
            return
        self._window -= size
        self.data_frames += 1
        stream_id = sender.stream_id
        self._size += _ANSWER_BYTES + len(message) + len(ok)
        self._parts += (
            frames.frame_head(_HEAD, frames.HEADERS, frames.END_HEADERS, stream_id) + RESPONSE_HEAD,
            frames.frame_head(size, frames.DATA, 0, stream_id) + b"\0" + len(message).to_bytes(4, "big"),
            message,
            frames.frame_head(len(ok), frames.HEADERS, _ENDS, stream_id) + ok,
        )
        sender.trailers = ok
        self._events.append(CallSent(stream_id))

    def head(self, sender: SendStream, block: bytes = RESPONSE_HEAD) -> None:
        """The head of an answer, before its first message; a second time nothing."""
        if not sender.begun:
            sender.begun = True
            self._headers(sender.stream_id, block, frames.END_HEADERS)

    def message(self, sender: SendStream, message: Message) -> None:
        """A message, as the windows let it."""
        parts = (message,) if isinstance(message, bytes) else message
        self.data(sender, b"\0" + sum(map(len, parts)).to_bytes(4, "big"), *parts)

    def data(self, sender: SendStream, *parts: Part) -> None:
        sender.queue(*parts)
        self.resume(sender)
        self.pump()

    def resume(self, sender: SendStream) -> None:
        """The stream takes its turn again, if something is queued and its window allows it. `pump` sends."""
        if sender.queued and sender.window > 0:
            self._waiting.setdefault(sender.stream_id, sender)

    def end(self, sender: SendStream, trailers: bytes) -> None:
        """The last block, once all messages have left; alone, where there was none. b"": without a block."""
        sender.trailers = trailers
        if not sender.queued:
            self._finish(sender)

    def fail(self, sender: SendStream, trailers: bytes) -> bool:
        """As `end`, but what waits is not sent any more: a client that does not read hears of it all the same.

        False where a message was sent in part, so that the stream can only be reset.
        """
        self.drop(sender.stream_id)
        if not sender.drop_unsent():
            return False
        self.end(sender, trailers)
        return True

    def drop(self, stream_id: int) -> None:
        """The stream is over: what is queued for it is not sent."""
        self._waiting.pop(stream_id, None)

    def pump(self) -> None:
        """Sends what the windows allow, a frame of each stream in turn."""
        while self._waiting and self._window > 0 and not self.paused and self._size < MOST_AT_ONCE_BYTES:
            stream_id, sender = self._waiting.popitem(last=False)
            if sender.window <= 0:
                continue  # SETTINGS have closed it
            sent = sender.queued
            self._put(*sender.next_frame(min(self._window, self.frame_bytes, FRAME_BYTES)))
            sent -= sender.queued
            self._window -= sent
            self.data_frames += 1
            if not sender.queued and sender.trailers is not None:
                self._finish(sender)
                continue
            self.resume(sender)
            self._events.append(RoomMade(stream_id))

    def _finish(self, sender: SendStream) -> None:
        assert sender.trailers is not None
        if sender.trailers:
            block = sender.trailers if sender.begun else RESPONSE_HEAD + sender.trailers
            self._headers(sender.stream_id, block, _ENDS)
        else:
            self._put(frames.frame(frames.DATA, frames.END_STREAM, sender.stream_id))
        self._events.append(CallSent(sender.stream_id))

    def _headers(self, stream_id: int, block: bytes, flags: int) -> None:
        """One HEADERS frame, and CONTINUATIONs where the peer's frames are smaller."""
        if not self._table_announced:
            self._table_announced = True
            block = NO_TABLE + block
        most = self.frame_bytes
        first, rest = block[:most], block[most:]
        last = flags & ~frames.END_HEADERS if rest else flags
        self._put(frames.frame(frames.HEADERS, last, stream_id, first))
        while rest:
            first, rest = rest[:most], rest[most:]
            self._put(frames.frame(frames.CONTINUATION, 0 if rest else frames.END_HEADERS, stream_id, first))

    # What the peer allows.

    def shrink_table(self, size: int) -> None:
        """The peer keeps a table of `size` for compression: below the first, the next block has to confirm it.

        By 0, which is all that we use of it: then no later size has to be confirmed (RFC 7541, 4.2).
        """
        if size < frames.FIRST_TABLE_BYTES and not self._table_shrunk:
            self._table_shrunk, self._table_announced = True, False

    def widen(self, increment: int) -> None:
        """The connection's window."""
        self._window += increment
        if self._window > frames.MOST_WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self.pump()

"""HTTP/2 connection of a server (RFC 9113), without a socket: bytes in, events and bytes out.

Calls belong to whoever drives it: the connection tells of them by events, and is told what they answer. Nothing here
waits; what cannot leave yet is queued, by stream.
"""

from __future__ import annotations

from lossd_server.front.http2 import frames
from lossd_server.front.http2.call_stream import CallStream, to_shed
from lossd_server.front.http2.control_frames import FREE_PINGS, ControlFrames, first_settings
from lossd_server.front.http2.events import CallBegun, CallReset, Event, MessagesCame
from lossd_server.front.http2.frame_reader import Frame, FrameReader, Preface
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode, StreamFault
from lossd_server.front.http2.headers.assembly import HeaderAssembly, HeaderBlock
from lossd_server.front.http2.headers.blocks import HeaderDecoder, Heads, TrailerBlocks
from lossd_server.front.http2.headers.request_head import MalformedHead
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.message_reader import OWN_MEMORY_BYTES, MalformedMessage, MessageReader
from lossd_server.front.http2.outgoing import Outgoing
from lossd_server.front.http2.rates import Rate
from lossd_server.front.http2.stream_numbers import StreamNumbers
from lossd_server.front.http2.windows.receive_window import ReceiveWindow
from lossd_server.front.http2.windows.unclaimed import UnclaimedBytes


class Http2Connection:
    """`receive` takes bytes, `events` has what they meant, `outgoing` what is to be sent.

    heads, trailers: requests' heads that are remembered, and how calls end, for all connections. now_s: any steady
    clock's time. closed: a fault has ended it, and GOAWAY is the last that is sent.
    """

    def __init__(self, limits: Http2Limits, heads: Heads, trailers: TrailerBlocks | None = None) -> None:
        self._limits = limits
        self.events: list[Event] = []
        self.outgoing = Outgoing(self.events, trailers or TrailerBlocks())
        self.streams: dict[int, CallStream] = {}
        self._numbers = StreamNumbers()
        self._preface = Preface()
        self._going_on: set[int] = set()  # answered streams whose clients send more than half a window behind that
        self.going_away = self.closed = False
        self._frames = FrameReader(limits.frame_bytes, limits.header_block_bytes)
        self._blocks = HeaderAssembly(limits.header_block_bytes)
        self._decoder = HeaderDecoder(limits, heads)
        self._empty = Rate("empty frames", limits.empty_frames)
        self._control = ControlFrames(
            limits, self.outgoing, self.streams, self._numbers, self.events, self._forget, self._decoder.acknowledged
        )
        self._window = ReceiveWindow(limits.connection_window_bytes)
        self._unclaimed = UnclaimedBytes(limits.silent_stream_bytes)
        self.outgoing.write(first_settings(limits))
        self._grant_connection()

    @property
    def settings_acknowledged(self) -> bool:
        return self._control.settings_acknowledged

    # What comes.

    def receive(self, data: bytes, now_s: float) -> None:
        """Takes bytes, cut anywhere."""
        if self.closed:
            return
        try:
            if not self._preface.is_here:
                data = self._preface.take(data)
            for frame in self._frames.feed(data):
                try:
                    self._take(frame, now_s)
                except StreamFault as fault:
                    self._reset_for(fault, now_s)
                if self.outgoing.unread > self._limits.unread_bytes:
                    raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "what was asked for is not read")
        except ConnectionFault as fault:
            self._fail(fault)
        self._grant_connection()

    def own_memory(self) -> memoryview | None:
        """Where the data that comes next may be received, without a copy; None where it goes to `receive`."""
        left = self._frames.data_left
        stream = self.streams.get(self._frames.stream_id) if left >= OWN_MEMORY_BYTES else None
        if stream is None or stream.over or self.closed:
            return None
        memory = stream.reader.own_memory()
        return None if memory is None else memory[:left]

    def received(self, count: int, now_s: float) -> None:
        """The first `count` bytes of `own_memory` have been received."""
        try:
            self._data(self._frames.direct(count), now_s, count)
        except StreamFault as fault:
            self._reset_for(fault, now_s)
        except ConnectionFault as fault:
            self._fail(fault)
        self._grant_connection()

    def _take(self, frame: Frame, now_s: float) -> None:
        kind = frame.kind
        self._blocks.check(frame)
        if not self._control.has_settings and (kind != frames.SETTINGS or frame.flags & frames.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == frames.DATA:
            self._data(frame, now_s)
        elif kind == frames.HEADERS or kind == frames.CONTINUATION:
            block = self._blocks.begin(frame) if kind == frames.HEADERS else self._blocks.go_on(frame)
            if block is not None:
                self._headers(block)
        else:
            self._control.handle(frame, now_s)

    def _data(self, frame: Frame, now_s: float, filled: int = 0) -> None:
        """filled: bytes that were received into the message's own memory, in place of a payload."""
        self._window.take(frame.counted)
        self._control.free_pings = FREE_PINGS
        stream_id = frame.stream_id
        ends = frame.whole and bool(frame.flags & frames.END_STREAM)
        if frame.empty and frame.whole and not ends:
            self._empty.count(now_s)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._numbers.check_late(stream_id, last=False)
            return
        reader = stream.reader
        if reader.ended:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
        if not reader.receive(frame.counted):
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window is overrun")
        stream.count(filled or len(frame.payload), ends)
        if stream.over:  # nobody takes it any more
            if ends:
                self._drop(stream_id)
            elif 2 * reader.room < self._limits.initial_window_bytes:
                self._going_on.add(stream_id)
            return
        expected, fault = reader.expected, ""
        try:
            if filled:
                reader.fill(filled)
            else:
                reader.feed(frame.payload)
        except MalformedMessage as error:
            fault = str(error)
        self._window.expect(reader.expected - expected)
        if ends:
            self._end_request(stream_id, reader, fault)
            return
        self.events.append(MessagesCame(stream_id, fault))
        self._grant(stream_id, reader)

    def _end_request(self, stream_id: int, reader: MessageReader, fault: str = "") -> None:
        """Its client has sent all."""
        self._window.expect(-reader.expected)
        reader.ended = True
        if reader.is_cut:
            fault = fault or "the stream ends in the middle of a message"
        self.events.append(MessagesCame(stream_id, fault))

    def _headers(self, block: HeaderBlock) -> None:
        stream_id = block.stream_id
        if self._numbers.opens(stream_id):
            self._open(block)
            return
        fault = "" if block.ends and not block.on_itself else "a second header block does not end the stream"
        try:
            self._decoder.trailers(block.block)  # also of a stream that is over: blocks may depend on each other
        except MalformedHead as error:
            fault = str(error)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._numbers.check_late(stream_id, last=True)
            return
        if stream.reader.ended:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        if fault:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        stream.count(0, ends=True)
        if stream.over:
            self._drop(stream_id)
        else:
            self._end_request(stream_id, stream.reader)

    def _open(self, block: HeaderBlock) -> None:
        stream_id = block.stream_id
        try:
            head = self._decoder.head(block.block)
        except MalformedHead as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if block.on_itself:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
        if self.going_away or len(self.streams) >= self._limits.concurrent_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many streams, or the server is going away")
        if block.ends and head.length:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "content-length is not what came")
        stream = CallStream(
            stream_id, head, self._limits.initial_window_bytes, self.outgoing.first_window, self._unclaimed
        )
        stream.reader.ended = block.ends
        self.streams[stream_id] = stream
        self.events.append(CallBegun(stream_id, head))

    # What whoever handles the calls asks for.

    def want(self, stream_id: int, whole: bool = True) -> None:
        """Somebody is ready to take the stream's next message, whatever its size; or, not whole, to hear that size."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.over:
            return
        reader = stream.reader
        expected = reader.expected
        reader.wanted = reader.wanted or whole
        self._window.expect(reader.expected - expected)
        self._grant(stream_id, reader)
        self._grant_connection()

    def ended(self, stream_id: int) -> None:
        """The call's end has left.

        Its client is given time to end by itself: some report a reset in place of the answer before it, some never end.
        """
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if stream.reader.ended:
            self._drop(stream_id)
        else:
            self._window.expect(-stream.reader.expected)
            stream.reader.discard()
            stream.over = True
            if (oldest := self._numbers.answered(stream_id)) in self.streams:
                self.reset(oldest, ErrorCode.NO_ERROR)

    def end_those_that_go_on(self) -> None:
        """Resets streams that were answered a while ago: they are not left to wait for a wider window."""
        for stream_id in self._going_on & self.streams.keys():
            self.reset(stream_id, ErrorCode.NO_ERROR)
        self._going_on.clear()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Ends a stream at once, on both sides; its call is not told."""
        self._drop(stream_id)
        self.outgoing.write(frames.rst_stream(stream_id, code))
        self._numbers.reset_by_us(stream_id)

    @property
    def unclaimed_bytes(self) -> int:
        """What came, and no call was charged for yet."""
        return self._unclaimed.bytes + self._frames.kept_bytes + self._blocks.kept_bytes

    def shed(self, most_bytes: int) -> None:
        """Ends streams that hold it until it is no more than this; where that is not enough, the connection."""
        for stream_id, code in to_shed(self.streams, self.unclaimed_bytes - most_bytes):
            self._forget(stream_id)
            self.reset(stream_id, code)
        if self.unclaimed_bytes > most_bytes:
            self._fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much was sent that no call takes"))

    def go_away(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "", *, last: bool = True) -> None:
        """Takes no further streams. last: False announces it only, so that what is under way is still taken."""
        self.going_away = last
        self.outgoing.write(frames.goaway(self._numbers.last if last else frames.MOST_STREAM_ID, code, reason))

    def ping(self, payload: bytes) -> None:
        self.outgoing.write(frames.frame(frames.PING, 0, 0, payload))

    def _fail(self, fault: ConnectionFault) -> None:
        self.closed = True
        self.go_away(fault.code, fault.reason)
        for stream_id in list(self.streams):
            self._forget(stream_id)

    def _reset_for(self, fault: StreamFault, now_s: float) -> None:
        self._control.count_reset(fault.stream_id, now_s)
        self._forget(fault.stream_id)
        self.reset(fault.stream_id, fault.code)

    def _forget(self, stream_id: int) -> None:
        """The stream is over on both sides, and its call is told."""
        self._numbers.reset_by_peer(stream_id)
        stream = self._drop(stream_id)
        if stream is not None and not stream.over:
            self.events.append(CallReset(stream_id))

    def _drop(self, stream_id: int) -> CallStream | None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            if not stream.over:
                self._window.expect(-stream.reader.expected)
            stream.reader.discard()
            self.outgoing.drop(stream_id)
        return stream

    def _grant(self, stream_id: int, reader: MessageReader) -> None:
        if increment := reader.grant():
            self.outgoing.write(frames.window_update(stream_id, increment))

    def _grant_connection(self) -> None:
        increment = 0 if self.closed else self._window.grant()
        if increment:
            self.outgoing.write(frames.window_update(0, increment))

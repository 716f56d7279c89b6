"""Control frames: those that say something of the connection or of a window, and carry nothing of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lossd_server.front.http2 import frames
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.events import Event, PingAnswered
from lossd_server.front.http2.frame_reader import Frame
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode, StreamFault
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.outgoing import Outgoing
from lossd_server.front.http2.rates import Rate
from lossd_server.front.http2.stream_numbers import StreamNumbers

# The size of a frame's payload, where it is always the same.
_SIZES = {frames.RST_STREAM: 4, frames.PING: frames.PING_BYTES, frames.WINDOW_UPDATE: 4}
# Frames of the connection, which name no stream.
_OF_CONNECTION = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})
# PINGs beside each DATA frame, of either side, that are no flood: gRPC's libraries estimate bandwidth by them, and gRFC
# A8 lets them send two for each frame of a call. grpc-java and grpc-go send one with every small answer, thousands each
# second.
FREE_PINGS = 2
# WINDOW_UPDATEs for each DATA frame of ours that are no flood, one of its stream and one of the connection, whenever
# they come: a client of grpcio that makes more than 5,000 small calls a second sends more than 10,000.
FREE_UPDATES = 2


def first_settings(limits: Http2Limits) -> bytes:
    """Our SETTINGS: what we take. No dynamic table, so that a header block means the same wherever it comes."""
    return frames.settings(
        {
            frames.HEADER_TABLE_SIZE: 0,
            frames.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
            frames.INITIAL_WINDOW_SIZE: limits.initial_window_bytes,
            frames.MAX_FRAME_SIZE: limits.frame_bytes,
            frames.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
        }
    )


class ControlFrames:
    """streams: those with a call. forget: is told of a stream that its client reset, acknowledged: of our SETTINGS."""

    def __init__(
        self,
        limits: Http2Limits,
        outgoing: Outgoing,
        streams: Mapping[int, CallStream],
        numbers: StreamNumbers,
        events: list[Event],
        forget: Callable[[int], object],
        acknowledged: Callable[[], object],
    ) -> None:
        self._outgoing = outgoing
        self._streams = streams
        self._numbers = numbers
        self._events = events
        self._forget = forget
        self._acknowledged = acknowledged
        self.has_settings = False  # the peer's first frame
        self.settings_acknowledged = False
        self.free_pings = 0  # until the next DATA frame
        self._data_frames = 0  # that had been sent before the last PING
        self._free_updates = 0
        self._updated_frames = 0  # DATA frames that had been sent before the last WINDOW_UPDATE
        self._most_free_updates = int(limits.window_updates[0])
        self._handlers: dict[int, Callable[[Frame], None]] = {
            frames.PRIORITY: self._priority,
            frames.RST_STREAM: self._rst_stream,
            frames.SETTINGS: self._settings,
            frames.PUSH_PROMISE: self._push_promise,
            frames.PING: self._ping,
            frames.GOAWAY: self._goaway,
            frames.WINDOW_UPDATE: self._window_update,
        }
        self._rates = {
            frames.RST_STREAM: Rate("resets", limits.resets),
            frames.SETTINGS: Rate("SETTINGS", limits.settings_frames),
            frames.PING: Rate("PINGs", limits.pings),
            frames.WINDOW_UPDATE: Rate("window updates", limits.window_updates),
        }
        self._others = Rate("frames that say nothing", limits.other_frames)

    def handle(self, frame: Frame, now_s: float) -> None:
        """Raises ConnectionFault, StreamFault."""
        kind, stream_id = frame.kind, frame.stream_id
        if kind == frames.PING and self._is_free():
            self.free_pings -= 1
        elif kind == frames.WINDOW_UPDATE and self._is_free_update():
            self._free_updates -= 1
        elif not (kind == frames.RST_STREAM and self._is_over(stream_id)):
            self._rates.get(kind, self._others).count(now_s)
        handler = self._handlers.get(kind)
        if handler is None:
            return  # of an extension that we do not know
        if kind in _OF_CONNECTION and stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of the connection names a stream")
        if len(frame.payload) != _SIZES.get(kind, len(frame.payload)):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame has a wrong size")
        if kind == frames.RST_STREAM or (kind == frames.WINDOW_UPDATE and stream_id):
            self._numbers.check_opened(stream_id)
        handler(frame)

    def count_reset(self, stream_id: int, now_s: float) -> None:
        """We were made to reset a stream, which counts as if its client had; once where it has."""
        if not self._numbers.is_reset_by_peer(stream_id):
            self._rates[frames.RST_STREAM].count(now_s)

    def _is_over(self, stream_id: int) -> bool:
        """Answered before its client had sent all, or reset by us: gRPC's clients may reset it then, once."""
        stream = self._streams.get(stream_id)
        return self._numbers.is_reset_by_us(stream_id) if stream is None else stream.over

    def _rst_stream(self, frame: Frame) -> None:
        self._forget(frame.stream_id)

    def _settings(self, frame: Frame) -> None:
        payload = bytes(frame.payload)
        if frame.flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement has a payload")
            if not self.settings_acknowledged:
                self.settings_acknowledged = True
                self._acknowledged()
            return
        if len(payload) % frames.SETTING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS have a wrong size")
        self.has_settings = True
        first_window = self._outgoing.first_window
        for key, value in frames.read_settings(payload):
            self._check_setting(key, value)
            if key == frames.INITIAL_WINDOW_SIZE:
                first_window = value  # the last counts, and each stream is looked at once, however many there are
            elif key == frames.MAX_FRAME_SIZE:
                self._outgoing.frame_bytes = value
            elif key == frames.HEADER_TABLE_SIZE:
                self._outgoing.shrink_table(value)
        self._change_first_window(first_window)
        self._outgoing.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._outgoing.pump()

    @staticmethod
    def _check_setting(key: int, value: int) -> None:
        if key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if key == frames.INITIAL_WINDOW_SIZE and value > frames.MOST_WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large")
        if key == frames.MAX_FRAME_SIZE and not frames.LEAST_FRAME_BYTES <= value <= frames.MOST_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")

    def _change_first_window(self, first_window: int) -> None:
        """Also of the streams that are open: what they were given before is kept (section 6.9.2)."""
        difference, self._outgoing.first_window = first_window - self._outgoing.first_window, first_window
        if difference:
            for stream in self._streams.values():
                stream.sender.window += difference
                if stream.sender.window > frames.MOST_WINDOW_BYTES:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
                self._outgoing.resume(stream.sender)

    def _is_free(self) -> bool:
        """Whether a PING stands beside a DATA frame."""
        sent = self._outgoing.data_frames
        if sent != self._data_frames:
            self._data_frames, self.free_pings = sent, FREE_PINGS
        return self.free_pings > 0

    def _is_free_update(self) -> bool:
        """Whether a WINDOW_UPDATE gives back what a DATA frame took."""
        sent = self._outgoing.data_frames
        if sent != self._updated_frames:
            more = FREE_UPDATES * (sent - self._updated_frames)
            self._updated_frames, self._free_updates = sent, min(self._free_updates + more, self._most_free_updates)
        return self._free_updates > 0

    def _ping(self, frame: Frame) -> None:
        payload = bytes(frame.payload)
        if frame.flags & frames.ACK:
            self._events.append(PingAnswered(payload))
        else:
            self._outgoing.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    @staticmethod
    def _goaway(frame: Frame) -> None:
        """The client opens no further streams; those that are open go on."""
        if len(frame.payload) < frames.GOAWAY_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")

    def _window_update(self, frame: Frame) -> None:
        stream_id = frame.stream_id
        increment = int.from_bytes(frame.payload, "big") & frames.MOST_WINDOW_BYTES
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
            self._outgoing.widen(increment)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # it has ended meanwhile
        if not increment:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
        stream.sender.window += increment
        if stream.sender.window > frames.MOST_WINDOW_BYTES:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._outgoing.resume(stream.sender)
        self._outgoing.pump()

    def _priority(self, frame: Frame) -> None:
        stream_id = frame.stream_id
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(frame.payload) != frames.PRIORITY_BYTES:
            raise self._fault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has a wrong size")
        if int.from_bytes(frame.payload[:4], "big") & frames.MOST_STREAM_ID == stream_id:
            raise self._fault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def _fault(self, stream_id: int, code: ErrorCode, reason: str) -> ConnectionFault | StreamFault:
        """The stream's, where there is one: an idle stream must not be reset (section 6.4)."""
        return StreamFault(stream_id, code, reason) if stream_id in self._streams else ConnectionFault(code, reason)

    @staticmethod
    def _push_promise(_: Frame) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client promises no push")

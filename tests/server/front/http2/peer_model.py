"""A client that keeps its own books: what it may send, and what it has let the server send.

It fails where the server oversteps a window, a frame's size, or what may still come on a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.server.front.http2 import wire

FIRST_WINDOW = 65535


@dataclass
class PeerStream:
    """room: what we may send. window: what the server may. unsent: bytes that wait for room. body: what came."""

    window: int
    room: int = FIRST_WINDOW
    unsent: bytearray = field(default_factory=bytearray)
    ends: bool = False
    sent_end: bool = False
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: bool = False
    reset_by_us: bool = False

    @property
    def live(self) -> bool:
        return not self.reset and not self.reset_by_us


class PeerModel:
    """streams: by number. `reads` takes what the server has sent; what is to be sent to it is returned."""

    def __init__(self) -> None:
        self.streams: dict[int, PeerStream] = {}
        self.window = self.room = FIRST_WINDOW
        self.first_window = FIRST_WINDOW
        self.first_room = FIRST_WINDOW
        self.frame_bytes = 1 << 14
        self.next_id = 1

    def open(self) -> bytes:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        self.streams[stream_id] = PeerStream(self.first_window, self.first_room)
        return wire.headers(stream_id, wire.request(b"/test/Model"), wire.END_HEADERS)

    def send(self, most_frame: int = 1 << 14) -> bytes:
        """All that the windows allow now."""
        sent = b""
        for stream_id, stream in self.streams.items():
            while stream.live and stream.unsent and stream.room > 0 and self.room > 0:
                size = min(len(stream.unsent), stream.room, self.room, most_frame)
                piece, stream.unsent[:size] = bytes(stream.unsent[:size]), b""
                stream.room -= size
                self.room -= size
                sent += wire.data(stream_id, piece)
            if stream.live and stream.ends and not stream.unsent and not stream.sent_end:
                stream.sent_end = True
                sent += wire.data(stream_id, ends=True)
        return sent

    def reset(self, stream_id: int) -> bytes:
        self.streams[stream_id].reset_by_us = True
        return wire.rst_stream(stream_id)

    def widen(self, stream_id: int, increment: int) -> bytes:
        if not stream_id:
            self.window += increment
        else:
            self.streams[stream_id].window += increment
        return wire.window_update(stream_id, increment)

    def change_first_window(self, value: int) -> bytes:
        """The server follows at once: what it sends after its acknowledgement is by the new windows."""
        for stream in self.streams.values():
            stream.window += value - self.first_window
        self.first_window = value
        return wire.settings({wire.INITIAL_WINDOW: value})

    def reads(self, received: bytes) -> None:
        for one in wire.parse(received):
            assert one.kind != wire.GOAWAY, one.payload
            if one.kind == wire.SETTINGS and not one.flags & wire.ACK:
                self._settings(one.payload)
            elif one.kind == wire.WINDOW_UPDATE:
                self._widened(one.stream_id, one.number)
            elif one.stream_id:
                self._on_stream(one)

    def _settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == wire.INITIAL_WINDOW:
                self.first_room = value

    def _widened(self, stream_id: int, increment: int) -> None:
        assert 0 < increment <= wire.MOST_WINDOW
        if not stream_id:
            self.room += increment
            assert self.room <= wire.MOST_WINDOW
        else:
            stream = self.streams[stream_id]
            stream.room += increment
            assert stream.room <= wire.MOST_WINDOW

    def _on_stream(self, one: wire.Received) -> None:
        stream = self.streams[one.stream_id]
        if one.kind == wire.RST_STREAM:
            assert not stream.reset
            stream.reset = True
            return
        assert not stream.ended
        assert not stream.reset
        if one.kind == wire.DATA:
            size = len(one.payload)
            assert size <= self.frame_bytes
            self.window -= size
            stream.window -= size
            assert not size or (self.window >= 0 and (stream.window >= 0 or stream.reset_by_us))
            stream.body += one.payload
        stream.ended = one.ends

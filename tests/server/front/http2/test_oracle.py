"""The h2 library as a judge: as a client it takes all that we send, and what it refuses as a server, so do we."""

from __future__ import annotations

from collections import defaultdict

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import CallBegun, CallSent, MessagesCame
from lossd_server.front.http2.headers.blocks import OK_TRAILERS
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import wire

Setting = h2.settings.SettingCodes


class Echoing:
    """A connection whose every call is sent its messages back."""

    def __init__(self) -> None:
        self.connection = Http2Connection(Http2Limits(), {})

    def receive(self, data: bytes) -> bytes:
        """What is sent in answer."""
        connection = self.connection
        connection.receive(data, 0.0)
        sent = b""
        while connection.events or connection.outgoing.has_parts:
            events, connection.events[:] = list(connection.events), []
            for event in events:
                if isinstance(event, CallBegun):
                    connection.want(event.stream_id)
                if isinstance(event, CallBegun | MessagesCame):
                    self._echo(event.stream_id)
                elif isinstance(event, CallSent):
                    connection.ended(event.stream_id)
            sent += b"".join(connection.outgoing.take())
            connection.outgoing.pump()
        return sent

    def _echo(self, stream_id: int) -> None:
        stream = self.connection.streams.get(stream_id)
        if stream is None or stream.sender.trailers is not None:
            return
        outgoing = self.connection.outgoing
        while (body := stream.reader.take()) is not None:
            outgoing.head(stream.sender)
            outgoing.message(stream.sender, bytes(body))
            self.connection.want(stream_id)
        if stream.reader.ended:
            outgoing.end(stream.sender, OK_TRAILERS)


class Client:
    """The library, and what it has sent and been told."""

    def __init__(self) -> None:
        self.server = Echoing()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.h2.initiate_connection()
        self.sent: dict[int, bytearray] = defaultdict(bytearray)
        self.came: dict[int, bytearray] = defaultdict(bytearray)
        self.open: list[int] = []
        self.ended: set[int] = set()
        self.pings = 0
        self.unread: list[tuple[int, int]] = []
        self.exchange()

    def exchange(self) -> None:
        """Until neither has anything to say."""
        while sent := self.h2.data_to_send():
            for event in self.h2.receive_data(self.server.receive(sent)):
                assert not isinstance(event, h2.events.ConnectionTerminated)
                if isinstance(event, h2.events.DataReceived):
                    assert event.stream_id is not None
                    self.came[event.stream_id] += event.data or b""
                    self.unread.append((event.flow_controlled_length or 0, event.stream_id))
                elif isinstance(event, h2.events.StreamEnded):
                    assert event.stream_id is not None
                    self.ended.add(event.stream_id)
                elif isinstance(event, h2.events.PingAckReceived):
                    self.pings -= 1

    def begin(self) -> None:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, wire.request_fields())
        self.open.append(stream_id)

    def send(self, stream_id: int, body: bytes, padding: int | None) -> None:
        """A message, if the windows let it all in: a client of this kind does not wait."""
        rest = wire.message(body)
        while rest:
            spare = 0 if padding is None else padding + 1
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size) - spare
            if room <= 0:
                break
            self.h2.send_data(stream_id, rest[:room], pad_length=padding)
            self.sent[stream_id] += rest[:room]
            rest = rest[room:]
            self.exchange()
        if rest:
            self.cancel(stream_id)

    def end(self, stream_id: int) -> None:
        self.open.remove(stream_id)
        self.h2.end_stream(stream_id)

    def cancel(self, stream_id: int) -> None:
        self.open.remove(stream_id)
        self.sent.pop(stream_id, None)
        self.h2.reset_stream(stream_id, 8)

    def read(self) -> None:
        """Opens the windows for what has come."""
        for size, stream_id in self.unread:
            if size:
                self.h2.acknowledge_received_data(size, stream_id)
        self.unread.clear()


NAMES = ("begin", "begin", "send", "send", "send", "end", "cancel", "read", "ping", "window", "frame", "table")
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 5), st.sampled_from((0, 1, 5, 100, 16_384, 40_000, 100_000))),
    max_size=50,
)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS)
def test_accepts_us(steps: list[tuple[str, int, int]]) -> None:
    """A client that follows RFC 9113 to the letter takes every byte of ours, and is answered in full."""
    client = Client()
    for name, pick, size in steps:
        stream_id = client.open[pick % len(client.open)] if client.open else 0
        if name == "begin":
            client.begin()
        elif name == "send" and stream_id:
            client.send(stream_id, bytes(size), None if pick % 2 else pick * 50)
        elif name == "end" and stream_id:
            client.end(stream_id)
        elif name == "cancel" and stream_id:
            client.cancel(stream_id)
        elif name == "read":
            client.read()
        elif name == "ping":
            client.pings += 1
            client.h2.ping(b"12345678")
        elif name == "window":
            client.h2.update_settings({Setting.INITIAL_WINDOW_SIZE: size})
        elif name == "frame":
            client.h2.update_settings({Setting.MAX_FRAME_SIZE: 16_384 + size})
        elif name == "table":
            client.h2.update_settings({Setting.HEADER_TABLE_SIZE: size})
        client.exchange()

    for stream_id in list(client.open):
        client.end(stream_id)
    client.h2.update_settings({Setting.INITIAL_WINDOW_SIZE: (1 << 24)})
    client.h2.increment_flow_control_window(1 << 24)
    client.exchange()
    client.read()
    client.exchange()
    assert client.pings == 0
    for stream_id, sent in client.sent.items():
        assert stream_id in client.ended
        assert client.came[stream_id] == sent


STREAMS = st.sampled_from((0, 1, 1, 1, 3, 3, 5))
BLOCKS = st.sampled_from((wire.request(), wire.request()[:30], b"", wire.block([(b"a", b"b")])))
# Without what the library sees otherwise: a server ignores ALTSVC (0xA; RFC 7838, section 4), a client's streams go on
# after its GOAWAY, and a WINDOW_UPDATE of 0 on a stream that is closed says nothing.
TYPES = st.integers(0, 12).filter(lambda kind: kind not in (wire.GOAWAY, wire.WINDOW_UPDATE, 0xA))
FRAMES = st.one_of(
    st.builds(wire.headers, STREAMS, BLOCKS, st.sampled_from((0, 1, 4, 5))),
    st.builds(wire.continuation, STREAMS, st.sampled_from((wire.request()[30:], b"")), st.sampled_from((0, 4))),
    st.builds(wire.data, STREAMS, st.sampled_from((b"", wire.message(b"x"), b"\0")), st.booleans()),
    st.builds(wire.rst_stream, STREAMS),
    st.builds(wire.window_update, STREAMS, st.sampled_from((1, wire.MOST_WINDOW))),
    st.builds(wire.ping, st.sampled_from((bytes(8), bytes(7)))),
    st.builds(wire.settings, st.dictionaries(st.integers(1, 7), st.sampled_from((0, 1, 2, 1 << 14, 1 << 31)))),
    st.builds(wire.frame, TYPES, st.integers(0, 255), STREAMS, st.binary(max_size=12)),
)


def refused_by_library(sent: bytes) -> bool:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    try:
        for event in server.receive_data(sent):
            if isinstance(event, h2.events.StreamReset) and not event.remote_reset:
                return True
    except h2.exceptions.ProtocolError:
        return True
    return False


@settings(max_examples=600, deadline=None)
@given(frames=st.lists(FRAMES, max_size=6))
def test_refuses_as_we_do(frames: list[bytes]) -> None:
    """What the library calls a fault, ends a stream or the connection here too."""
    sent = wire.HANDSHAKE + b"".join(frames)
    connection = Http2Connection(Http2Limits(), {})
    connection.receive(sent, 0.0)
    found = list(wire.parse(b"".join(connection.outgoing.take())))

    refused = any(one.kind in (wire.GOAWAY, wire.RST_STREAM) for one in found)
    assert refused or not refused_by_library(sent)

"""Flow control: no window is overstepped, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd_server.call.contract import ServerCall
from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import CallBegun, CallReset, CallSent
from lossd_server.front.http2.frames import ErrorCode
from lossd_server.front.http2.headers.blocks import OK_TRAILERS
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import wire
from tests.server.front.http2.listening import listening
from tests.server.front.http2.peer_model import PeerModel
from tests.waiting import WAIT_S, until_awaited

BASE = Http2Limits().connection_window_bytes


class Driven:
    """A connection between a client that keeps books and a server that does as it is told."""

    def __init__(self) -> None:
        self.connection = Http2Connection(Http2Limits(), {})
        self.peer = PeerModel()
        self.answered: dict[int, bytearray] = {}
        self.taken: dict[int, int] = {}
        self.begun: set[int] = set()
        self.receive(wire.HANDSHAKE)

    def receive(self, data: bytes) -> None:
        self.connection.receive(data, 0.0)
        self.settle()

    def settle(self) -> None:
        """Handles what was told, and lets the client read what is to be sent."""
        connection = self.connection
        while connection.events or connection.outgoing.has_parts:
            for event in connection.events:
                if isinstance(event, CallBegun):
                    self.begun.add(event.stream_id)
                elif isinstance(event, CallSent):
                    connection.ended(event.stream_id)
                    self.begun.discard(event.stream_id)
                elif isinstance(event, CallReset):
                    self.begun.discard(event.stream_id)
            connection.events.clear()
            self.peer.reads(b"".join(connection.outgoing.take()))
            connection.outgoing.pump()

    def stream_of(self, pick: int) -> int:
        """One of the client's streams, 0 where there is none."""
        live = [number for number, stream in self.peer.streams.items() if stream.live]
        return live[pick % len(live)] if live else 0

    def call_of(self, pick: int) -> int:
        calls = sorted(self.begun & self.connection.streams.keys())
        return calls[pick % len(calls)] if calls else 0

    def take(self, stream_id: int) -> None:
        body = self.connection.streams[stream_id].reader.take()
        if body is not None:
            self.taken[stream_id] = self.taken.get(stream_id, 0) + 1

    def write(self, stream_id: int, body: bytes) -> None:
        sender = self.connection.streams[stream_id].sender
        if sender.trailers is None:
            self.connection.outgoing.head(sender)
            self.connection.outgoing.message(sender, body)
            self.answered.setdefault(stream_id, bytearray()).extend(wire.message(body))

    def end(self, stream_id: int) -> None:
        sender = self.connection.streams[stream_id].sender
        if sender.trailers is None:
            self.connection.outgoing.head(sender)
            self.connection.outgoing.end(sender, OK_TRAILERS)

    def answer(self, stream_id: int, body: bytes) -> None:
        sender = self.connection.streams[stream_id].sender
        if sender.trailers is None and not sender.begun:
            self.connection.outgoing.answer(sender, body)
            self.answered.setdefault(stream_id, bytearray()).extend(wire.message(body))


def step(driven: Driven, name: str, pick: int, size: int) -> None:
    """One thing that a client, a call, or the transport does."""
    peer, connection = driven.peer, driven.connection
    stream_id, call = driven.stream_of(pick), driven.call_of(pick)
    sent = b""
    if name == "open":
        sent = peer.open()
    elif name == "send" and stream_id and not peer.streams[stream_id].ends:
        peer.streams[stream_id].unsent += wire.message(bytes(size))
    elif name == "finish" and stream_id:
        peer.streams[stream_id].ends = True
    elif name == "reset" and stream_id:
        sent = peer.reset(stream_id)
    elif name == "widen":
        sent = peer.widen(stream_id, size + 1)
    elif name == "widen all":
        sent = peer.widen(0, size + 1)
    elif name == "first window":
        sent = peer.change_first_window(size)
    elif name == "pause":
        connection.outgoing.paused = not connection.outgoing.paused
    elif name == "want" and call:
        connection.want(call)
    elif name == "take" and call:
        driven.take(call)
    elif name == "write" and call:
        driven.write(call, bytes(size))
    elif name == "answer" and call:
        driven.answer(call, bytes(size))
    elif name == "end" and call:
        driven.end(call)
    elif name == "refuse" and call:
        connection.reset(call, ErrorCode.CANCEL)
        driven.begun.discard(call)
    driven.settle()
    driven.receive(sent + peer.send())


NAMES = (
    "open", "open", "send", "send", "finish", "reset", "widen", "widen all", "first window", "pause", "want", "take",
    "write", "write", "answer", "end", "refuse",
)  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 7), st.sampled_from((0, 1, 9, 300, 16379, 65530, 65536, 200_000))),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_books_balance(steps: list[tuple[str, int, int]]) -> None:
    """No window is overstepped; once all windows open, all is sent and all is taken, and the connection is as wide."""
    driven = Driven()
    for one in steps:
        step(driven, *one)
    peer, connection = driven.peer, driven.connection

    connection.outgoing.paused = False
    connection.outgoing.pump()
    driven.settle()
    driven.receive(peer.change_first_window(1 << 24) + peer.widen(0, 1 << 24))
    for call in list(driven.begun & connection.streams.keys()):
        driven.end(call)
    driven.settle()
    for number, stream in peer.streams.items():
        if stream.live and stream.ended:
            assert stream.body == driven.answered.get(number, b"")
        assert stream.ended or not stream.live
        if stream.live:
            driven.receive(peer.reset(number))

    assert not connection.streams
    assert peer.room >= BASE // 2
    assert not connection.outgoing.has_parts


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from((0, 1, 300, 65531, 70_000, 400_000)), min_size=1, max_size=12),
    frame=st.sampled_from((1000, 16384, 300_000)),
)
def test_all_arrives(sizes: list[int], frame: int) -> None:
    """Messages of any size on several streams at once arrive, as long as each is asked for."""
    driven = Driven()
    peer = driven.peer
    for size in sizes:
        driven.receive(peer.open())
        peer.streams[peer.next_id - 2].unsent += wire.message(bytes(size)) * 2
        peer.streams[peer.next_id - 2].ends = True

    while any(stream.unsent or not stream.sent_end for stream in peer.streams.values()):
        before = sum(len(stream.unsent) for stream in peer.streams.values())
        taken = sum(driven.taken.values())
        sent = peer.send(frame)
        driven.receive(sent)
        for call in driven.begun:
            driven.take(call)
            driven.connection.want(call)
        driven.settle()
        moved = before - sum(len(stream.unsent) for stream in peer.streams.values())
        assert sent or moved or sum(driven.taken.values()) > taken, "nobody may send, and nobody has ended"
    for call in driven.begun:
        for _ in range(2):
            driven.take(call)

    assert set(driven.taken.values()) == {2}
    assert len(driven.taken) == len(sizes)
    assert peer.room >= BASE // 2


def test_cut_message_leaves_the_window() -> None:
    """Calls that end within a message do not narrow the connection's window."""
    driven = Driven()
    for _ in range(20):
        driven.receive(driven.peer.open())
        number = driven.peer.next_id - 2
        driven.connection.want(number)
        driven.receive(wire.data(number, wire.message(bytes(60_000))[:100]))
        driven.peer.room -= 100
        driven.receive(wire.data(number, ends=True))
        driven.end(number)
        driven.settle()

    assert driven.peer.room >= BASE // 2


@pytest.mark.parametrize("size", [(1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_largest_message(size: int) -> None:
    """A message of any size that can be announced widens windows to 2^31 - 1 and no further, by valid increments."""
    driven = Driven()
    for _ in range(3):
        driven.receive(driven.peer.open())
        number = driven.peer.next_id - 2
        driven.receive(wire.data(number, b"\0" + size.to_bytes(4, "big")))
        driven.peer.room -= 5
        driven.peer.streams[number].room -= 5
        driven.connection.want(number)
        driven.settle()

        assert driven.peer.streams[number].room > wire.MOST_WINDOW - (1 << 17)
    assert driven.peer.room > wire.MOST_WINDOW - BASE


def test_a_window_is_wider_only_if_asked() -> None:
    """Nobody waits: a stream's client may send the first window, and no more."""
    driven = Driven()
    driven.receive(driven.peer.open())
    driven.peer.streams[1].unsent += wire.message(bytes(1 << 20))
    driven.receive(driven.peer.send())

    assert driven.peer.send() == b""
    assert driven.peer.streams[1].room == 0


# Of messages of so many bytes, with their prefixes, the first window holds a whole number, and a piece of a prefix.
PIECES = {65535 % size: size for size in range(900, 3000) if 0 < 65535 % size < 5}


@pytest.mark.parametrize("piece", PIECES)
def test_a_window_that_ends_within_a_prefix(piece: int, tmp_path: Path) -> None:
    """Once the messages before it were taken, the client may send on, though nobody knows yet what comes."""
    size, count = PIECES[piece], 300
    begins = asyncio.Event()

    async def counts(call: ServerCall) -> bytes:
        await begins.wait()
        taken = 0
        while await call.next_size() is not None:
            assert await call.read() is not None
            taken += 1
        return b"%d" % taken

    async def body() -> None:
        async with (
            listening(tmp_path, {"Counts": counts}) as (front, addresses),
            grpc.aio.insecure_channel(addresses["unix"]) as channel,
        ):
            sends: Any = channel.stream_unary("/test/Counts")
            call = sends(bytes(size - 5) for _ in range(count))

            def is_full() -> bool:
                streams = [one for part in front._shared.connections for one in part._connection.streams.values()]
                return [stream.reader.room for stream in streams] == [0]

            await until_awaited(is_full, "the first window is used up")
            begins.set()
            assert await call == b"%d" % count

    asyncio.run(asyncio.wait_for(body(), WAIT_S))

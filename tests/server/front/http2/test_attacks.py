"""Bombs, and what is sent to cost more than it takes to send: work and memory are bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import CallBegun
from lossd_server.front.http2.send_stream import SendStream
from tests.server.front.http2 import wire
from tests.server.front.http2.attacked import LIMITS, MANY, OPEN, ended, numbers, opened


def continuations(size: int) -> int:
    """How many CONTINUATIONs of a size are taken before the connection ends."""
    connection = opened(wire.headers(1, b"", 0))
    sent = 0
    while not connection.closed and sent < MANY:
        connection.receive(wire.continuation(1, bytes(size), 0), 0.0)
        sent += 1
    assert ended(connection) == "ENHANCE_YOUR_CALM"
    return sent


@pytest.mark.parametrize("size", [0, 1, 100, 16_384])
def test_continuation_flood(size: int) -> None:
    """A header block that goes on and on ends the connection, be its pieces empty."""
    assert continuations(size) <= 600


def test_bomb_of_references() -> None:
    """A large entry of the table, referred to by a byte each time, is not unpacked beyond the bound."""
    connection = Http2Connection(LIMITS, {})
    connection.receive(wire.PREFACE + wire.settings(), 0.0)
    bomb = wire.request() + wire.literal(b"x", bytes([97]) * 3000, 0x40) + b"\xbe" * 10_000
    connection.receive(wire.headers(1, bomb), 0.0)

    assert ended(connection) == "ENHANCE_YOUR_CALM"


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("count, size", [(200, 4), (65, 1), (9, 1000), (1, 9000), (3, 4000), (1, 20_000)])
def test_large_header_lists(count: int, size: int, acknowledged: bool) -> None:
    """Beyond 8 KiB decoded, or 64 fields, a call is refused, and told why; its connection goes on."""
    fields = [(b"x-%d" % index, b"a" * size) for index in range(count)]
    connection = opened() if acknowledged else Http2Connection(LIMITS, {})
    if not acknowledged:
        connection.receive(wire.PREFACE + wire.settings(), 0.0)
    connection.receive(wire.headers(1, wire.request(extra=fields)), 0.0)
    (begun,) = connection.events

    assert isinstance(begun, CallBegun)
    assert begun.head.error is not None
    assert begun.head.error.reason == "METADATA_TOO_LARGE"
    assert not connection.closed


@pytest.mark.parametrize("count, size", [(1, 33_000), (40, 1000), (2, 17_000)])
def test_huge_header_lists(count: int, size: int) -> None:
    """Far beyond, the connection ends: the rest of the block is not even decoded."""
    fields = [(b"x-%d" % index, b"a" * size) for index in range(count)]
    connection = opened(wire.headers(1, wire.request(extra=fields)))

    assert not connection.events
    assert connection.closed or not connection.streams


def test_largest_header_list() -> None:
    """Up to the bounds, a request is served."""
    fields = [(b"x-%d" % index, b"a" * 60) for index in range(64 - len(wire.request_fields()))]
    connection = opened(wire.headers(1, wire.request(extra=fields)))

    assert len(connection.streams) == 1


def test_size_updates() -> None:
    """A block of nothing but size updates is no request, and is read once."""
    connection = opened(wire.headers(1, b"\x20" * 16_000))

    assert not connection.events
    assert not connection.streams


def taken(connection: Http2Connection, frames: Callable[[int], bytes], count: int) -> int:
    """Bytes that the server holds more after `count` frames."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for index in range(count):
            connection.receive(frames(index), float(index))
            connection.events.clear()
            connection.outgoing.take()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


@pytest.mark.parametrize("size", [50_000, 1 << 18])
@pytest.mark.parametrize("wanted", [True, False])
def test_messages_by_the_byte(size: int, wanted: bool) -> None:
    """A message that comes in frames of two bytes takes little more than its own size."""
    connection = opened(OPEN, wire.data(1, b"\0" + size.to_bytes(4, "big")))
    if wanted:
        connection.want(1)
    count = min(size, 1 << 18 if wanted else 60_000) // 2 - 10

    assert taken(connection, lambda _: wire.data(1, b"ab"), count) < 3 * size + 100_000


def test_streams_that_come_and_go() -> None:
    """Nothing is kept of streams that are over, however they ended."""
    connection = opened()
    number = numbers()

    def one(index: int) -> bytes:
        stream_id = next(number)
        begun = wire.headers(stream_id + 2 * (index % 2), wire.request(), wire.END_HEADERS)  # every other leaves a gap
        if index % 2:
            next(number)
            stream_id += 2
        return begun + wire.rst_stream(stream_id)

    taken(connection, one, 200)
    assert taken(connection, one, 3000) < 20_000


def test_heads_are_remembered_within_bounds() -> None:
    """Heads that differ each time push each other out."""
    heads: dict[bytes, object] = {}
    connection = Http2Connection(LIMITS, heads)  # type: ignore[arg-type]  # only counted here
    connection.receive(wire.HANDSHAKE, 0.0)
    for index, number in zip(range(5000), numbers(), strict=False):
        extra = [(b"x", b"%d" % index)]
        connection.receive(wire.headers(number, wire.request(extra=extra)) + wire.rst_stream(number), float(index))
        connection.events.clear()

    assert 1000 < len(heads) <= 2048


class CountedSender(SendStream):
    """Counts how often anybody asks for its window or changes it."""

    asked = changed = 0

    @property
    def window(self) -> int:
        CountedSender.asked += 1
        return self._counted

    @window.setter
    def window(self, value: int) -> None:
        CountedSender.changed += 1
        self._counted = value


def blocked() -> Http2Connection:
    """A thousand answers that wait for windows of nothing."""
    connection = opened(wire.settings({wire.INITIAL_WINDOW: 0}))
    for number in range(1, 2000, 2):
        connection.receive(wire.headers(number, wire.request()), 0.0)
        stream = connection.streams[number]
        stream.sender = CountedSender(number, 0)
        connection.outgoing.answer(stream.sender, b"answer")
    connection.outgoing.take()
    CountedSender.asked = CountedSender.changed = 0
    return connection


def test_settings_of_many_windows() -> None:
    """SETTINGS with thousands of windows change each stream once, and let it send what the last allows."""
    connection = blocked()
    connection.receive(wire.settings([(wire.INITIAL_WINDOW, index % 5) for index in range(2700)]), 0.0)

    assert CountedSender.changed <= 3 * 1000
    sizes = [len(one.payload) for one in wire.parse(b"".join(connection.outgoing.take())) if one.kind == wire.DATA]
    assert sizes == [4] * 1000


def test_windows_of_blocked_streams() -> None:
    """A connection's window that grows by little, and often, looks at no stream whose own is closed."""
    connection = blocked()
    for _ in range(1000):
        connection.receive(wire.window_update(0, 1), 0.0)

    assert CountedSender.asked < 1000
    connection.receive(wire.window_update(5, 3), 0.0)
    (frame,) = wire.parse(b"".join(connection.outgoing.take()))
    assert (frame.kind, frame.stream_id, len(frame.payload)) == (wire.DATA, 5, 3)

"""Floods of frames: a connection's end, soon; an honest client that sends as many over time is never cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lossd_server.front.http2.frames import ErrorCode
from lossd_server.front.http2.rates import Rate
from lossd_server.front.http2.stream_numbers import MOST_ANSWERED
from tests.server.front.http2 import wire
from tests.server.front.http2.attacked import LIMITS, MANY, OPEN, ended, numbers, opened
from tests.server.front.http2.driven import DrivenConnection

MANY_ANSWERED = int(3 * LIMITS.resets[0])


def resets() -> Callable[[], bytes]:
    number = numbers()

    def one() -> bytes:
        stream_id = next(number)
        return wire.headers(stream_id, wire.request()) + wire.rst_stream(stream_id)

    return one


def flagged_resets() -> Callable[[], bytes]:
    """A flag that means nothing with RST_STREAM, and "acknowledged" with others."""
    number = numbers()

    def one() -> bytes:
        stream_id = next(number)
        return wire.headers(stream_id, wire.request()) + wire.frame(3, 1, stream_id, bytes(4))

    return one


def malformed() -> Callable[[], bytes]:
    """Each makes us reset a stream."""
    number = numbers()
    return lambda: wire.headers(next(number), b"")


def overrun() -> Callable[[], bytes]:
    """So does each of these, by a window that is too large."""
    number = numbers()

    def one() -> bytes:
        stream_id = next(number)
        return wire.headers(stream_id, wire.request()) + wire.window_update(stream_id, wire.MOST_WINDOW)

    return one


# What is sent again and again; how often at once an honest client may, and how often each second.
FLOODS: dict[str, tuple[Callable[[], Callable[[], bytes]], tuple[float, float]]] = {
    "rapid reset": (resets, LIMITS.resets),
    "rapid reset with a flag": (flagged_resets, LIMITS.resets),
    "made to reset by malformed requests": (malformed, LIMITS.resets),
    "made to reset by windows": (overrun, LIMITS.resets),
    "RST_STREAM of a closed stream": (lambda: lambda: wire.rst_stream(1), LIMITS.resets),
    "SETTINGS": (lambda: wire.settings, LIMITS.settings_frames),
    "acknowledgements of SETTINGS": (lambda: lambda: wire.SETTINGS_ACK, LIMITS.settings_frames),
    "PING": (lambda: wire.ping, LIMITS.pings),
    "acknowledgements of PING": (lambda: lambda: wire.ping(flags=wire.ACK), LIMITS.pings),
    "empty DATA": (lambda: lambda: wire.data(1), LIMITS.empty_frames),
    "DATA of padding": (lambda: lambda: wire.data(1, padding=0), LIMITS.empty_frames),
    "WINDOW_UPDATE of the connection": (lambda: lambda: wire.window_update(0, 1), LIMITS.window_updates),
    "WINDOW_UPDATE of a stream": (lambda: lambda: wire.window_update(1, 1), LIMITS.window_updates),
    "PRIORITY": (lambda: lambda: wire.priority(1), LIMITS.other_frames),
    "GOAWAY": (lambda: wire.goaway, LIMITS.other_frames),
    "frames of an extension": (lambda: lambda: wire.frame(0x16, 0, 0), LIMITS.other_frames),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood(name: str) -> None:
    """A flood ends its connection soon after the bound; what it leaves behind does not grow with it."""
    frames, (burst, _) = FLOODS[name]
    one = frames()
    connection = opened(OPEN) if not name.startswith(("rapid", "made")) else opened()
    sent = 0
    while not connection.closed and sent < MANY:
        connection.receive(one(), 0.0)
        sent += 1

    assert ended(connection) == "ENHANCE_YOUR_CALM"
    assert burst <= sent + 25 <= burst + 50  # the handshake's SETTINGS count too
    assert not connection.streams


@pytest.mark.parametrize("name", FLOODS)
def test_spread_over_time(name: str) -> None:
    """The same frames over time, as an honest client may send them, are never too many: counts drain."""
    frames, (burst, each_second) = FLOODS[name]
    one = frames()
    connection = opened(OPEN) if not name.startswith(("rapid", "made")) else opened()
    count = int(min(3 * burst, 30_000))
    for index in range(count):
        connection.receive(one(), 1.0 + index / each_second)
        connection.events.clear()

    assert ended(connection) == ""


def test_all_calls_cancelled_at_once() -> None:
    """A client whose calls have one deadline resets all that a connection may have, which is no flood."""
    numbers_of_all = range(1, 2 * LIMITS.concurrent_streams, 2)
    connection = opened(*(wire.headers(number, wire.request(), wire.END_HEADERS) for number in numbers_of_all))
    connection.receive(b"".join(map(wire.rst_stream, numbers_of_all)), 0.0)

    assert ended(connection) == ""
    assert not connection.streams


@pytest.mark.parametrize("beside", [lambda n: wire.call(2 * n + 3, b"x"), lambda n: wire.data(1, wire.message(b"x"))])
def test_pings_for_bandwidth(beside: Callable[[int], bytes]) -> None:
    """Two PINGs beside each call, or each message of a stream, are no flood, as fast as they come; a third is."""
    connection = opened(OPEN)
    for n in range(2000):
        connection.receive(beside(n) + wire.ping() * 2, 0.0)
        connection.events.clear()
        connection.outgoing.take()
        for stream_id in [one for one in connection.streams if one > 1]:
            connection.ended(stream_id)
        connection.want(1)

    assert not connection.closed

    connection.receive(beside(2000) + wire.ping() * (3 + int(LIMITS.pings[0])), 0.0)

    assert ended(connection) == "ENHANCE_YOUR_CALM"


def test_window_updates_of_many_answers() -> None:
    """Two for each answer are no flood, as fast as calls come; as many more as are one without calls are."""
    connection = opened(OPEN)
    for stream_id in range(3, 2 * int(LIMITS.window_updates[0]), 2):
        connection.receive(wire.call(stream_id, b"x"), 0.0)
        connection.events.clear()
        connection.outgoing.answer(connection.streams[stream_id].sender, b"y")
        connection.ended(stream_id)
        connection.outgoing.take()
        connection.receive(wire.window_update(0, 6) + wire.window_update(stream_id, 6), 0.0)

    assert not connection.closed

    connection.receive(wire.window_update(0, 1) * (int(LIMITS.window_updates[0]) + 50), 0.0)

    assert ended(connection) == "ENHANCE_YOUR_CALM"


def test_pings_beside_a_large_answer() -> None:
    """Two PINGs for each DATA frame of an answer are no flood either; a third is."""
    connection = opened(OPEN, wire.window_update(0, 1 << 30), wire.window_update(1, 1 << 30))
    sender = connection.streams[1].sender
    connection.outgoing.head(sender)
    for _ in range(2000):
        connection.outgoing.message(sender, bytes(100))
        connection.outgoing.take()
        connection.events.clear()
        connection.receive(wire.ping() * 2, 0.0)

    assert not connection.closed

    connection.receive(wire.ping() * (1 + int(LIMITS.pings[0])), 0.0)

    assert ended(connection) == "ENHANCE_YOUR_CALM"


def test_all_calls_cancelled_while_they_are_sent() -> None:
    """Of clients that send a piece of each message after its reset, as netty does, the connection goes on."""
    numbers_of_all = range(1, 2 * LIMITS.concurrent_streams, 2)
    connection = opened(*(wire.headers(number, wire.request(), wire.END_HEADERS) for number in numbers_of_all))
    for number in numbers_of_all:
        connection.receive(wire.rst_stream(number) + wire.data(number, bytes(100)) * 2, 0.0)
    late = [one for one in wire.parse(b"".join(connection.outgoing.take())) if one.kind == wire.RST_STREAM]

    assert not connection.closed
    assert [one.stream_id for one in late] == list(numbers_of_all)


def test_rate() -> None:
    """A burst, then as many as drain; a rest gives the burst back, and no more than that."""
    rate = Rate("tests", (3.0, 1.0))
    for now_s in (100.0, 100.0, 100.0, 101.0, 102.0, 1000.0, 1000.0, 1000.0):
        rate.count(now_s)

    with pytest.raises(Exception, match="too many tests"):
        rate.count(1000.5)


def test_unread_answers() -> None:
    """A client that reads nothing and asks on is cut, though it asks slowly."""
    connection = opened()
    connection.outgoing.paused = True
    for index in range(MANY):
        connection.receive(wire.ping(), float(index))
        if connection.closed:
            break

    assert index < 10_000
    assert ended(connection) == "ENHANCE_YOUR_CALM"


def test_reading_answers_again() -> None:
    """One that pauses now and then is not."""
    connection = opened()
    for index in range(20_000):
        connection.outgoing.paused = index % 100 < 50
        connection.receive(wire.ping(), float(index))

    assert not connection.closed


@pytest.mark.parametrize("crossing", [False, True])
def test_resets_of_answered_streams(crossing: bool) -> None:
    """A client resets each stream that is answered before it has sent all, however many those are: that is no flood.
    Nor is it where we have reset the stream meanwhile."""
    connection = opened()
    for stream_id in range(1, 2 * MANY_ANSWERED, 2):
        connection.receive(wire.headers(stream_id, wire.request(), wire.END_HEADERS), 0.0)
        connection.ended(stream_id)
        if crossing:
            connection.reset(stream_id, ErrorCode.NO_ERROR)
        connection.receive(wire.rst_stream(stream_id, 0), 0.0)

    assert ended(connection) == ""
    assert not connection.streams


def test_answered_streams_that_are_left_open() -> None:
    """A client that neither ends nor resets such streams, as grpc-go does not, can go on: the oldest are reset."""
    connection = opened()
    for stream_id in range(1, 2 * MANY_ANSWERED, 2):
        connection.receive(wire.headers(stream_id, wire.request(), wire.END_HEADERS), 0.0)
        connection.ended(stream_id)
    sent = list(wire.parse(b"".join(connection.outgoing.take())))

    assert {one.kind for one in sent} == {wire.RST_STREAM}
    assert {int.from_bytes(one.payload, "big") for one in sent} == {ErrorCode.NO_ERROR}
    assert len(sent) == MANY_ANSWERED - MOST_ANSWERED
    assert min(connection.streams) == 2 * len(sent) + 1


def test_many_calls_at_once() -> None:
    """A client that begins thousands of calls at once is read in small pieces, with a turn for others after each."""

    async def run() -> None:
        connection = DrivenConnection()
        protocol, transport = connection.protocol, connection.transport
        await connection.exchange(wire.HANDSHAKE)
        large, sizes, number = len(protocol.get_buffer(-1)), [], iter(range(1, 2000, 2))
        for calls in (70, 40, 10, 40):
            connection.receive(b"".join(wire.headers(next(number), wire.request()) for _ in range(calls)))
            sizes.append(len(protocol.get_buffer(-1)))
            assert transport.is_reading() == (sizes[-1] == large)
            await asyncio.sleep(0)
            assert transport.is_reading()

        small = sizes[0]
        assert small < large
        assert sizes == [small, small, large, large]
        connection.lose()
        await asyncio.sleep(0)

    asyncio.run(run())

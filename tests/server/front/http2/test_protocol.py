"""Connections in order: settings, windows, PINGs, and what a browser or a conformance suite is told."""

from __future__ import annotations

import asyncio

import pytest

from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.outgoing import MOST_AT_ONCE_BYTES
from lossd_server.front.http2.protocol import TURN_BYTES
from tests.server.front.http2 import wire
from tests.server.front.http2.driven import DrivenConnection, exchanged
from tests.server.front.http2.wire import Received

GET = wire.headers(1, wire.plain_request())


def sizes(frames: list[Received]) -> list[int]:
    """Of DATA on stream 1."""
    return [len(one.payload) for one in frames if one.kind == wire.DATA and one.stream_id == 1]


def window(size: int) -> bytes:
    return wire.settings({wire.INITIAL_WINDOW: size})


def test_settings_come_first() -> None:
    """The first frame is SETTINGS, before the client has said anything; what is asked for is what limits say."""
    first = exchanged().frames[0]
    values = {
        int.from_bytes(first.payload[at : at + 2], "big"): int.from_bytes(first.payload[at + 2 : at + 6], "big")
        for at in range(0, len(first.payload), 6)
    }

    limits = Http2Limits()
    assert (first.kind, first.flags, first.stream_id) == (wire.SETTINGS, 0, 0)
    assert values == {
        wire.TABLE_SIZE: 0,
        wire.MAX_STREAMS: limits.concurrent_streams,
        wire.INITIAL_WINDOW: limits.initial_window_bytes,
        wire.MAX_FRAME: limits.frame_bytes,
        wire.MAX_HEADER_LIST: limits.header_list_bytes,
    }


@pytest.mark.parametrize("count", [1, 3])
def test_settings_are_acknowledged(count: int) -> None:
    """Each SETTINGS is acknowledged once, and an acknowledgement is not."""
    frames = exchanged(wire.PREFACE + wire.settings() * count + wire.SETTINGS_ACK).frames

    assert [one.flags for one in frames if one.kind == wire.SETTINGS] == [0] + [wire.ACK] * count


def test_ping() -> None:
    """A PING is answered with its own bytes, an acknowledgement is not answered."""
    frames = exchanged(wire.HANDSHAKE, wire.ping(b"8 bytes!", wire.ACK), wire.ping(b"question")).frames

    assert [(one.flags, one.payload) for one in frames if one.kind == wire.PING] == [(wire.ACK, b"question")]


def test_get() -> None:
    """A GET is answered in plain text, whose length is announced."""
    answer = exchanged(wire.HANDSHAKE, GET).answers[1]

    assert answer.blocks[0][b":status"] == b"405"
    assert int(answer.blocks[0][b"content-length"]) == len(answer.body) > 9
    assert answer.ended
    assert answer.reset is None


def test_head() -> None:
    """To HEAD, the same without the text."""
    answer = exchanged(wire.HANDSHAKE, wire.headers(1, wire.plain_request(b"HEAD"))).answers[1]

    assert int(answer.blocks[0][b"content-length"]) > 9
    assert answer.body == b""
    assert answer.ended


def test_post_that_is_no_call() -> None:
    """Another content-type is not served, and its sender is not left to wait for a wider window."""
    connection = exchanged(
        wire.HANDSHAKE,
        wire.headers(1, wire.plain_request(b"POST", [(b"content-type", b"text/html")]), wire.END_HEADERS),
        *[wire.data(1, bytes(10_000))] * 5,
    )

    answer = connection.answers[1]
    assert answer.blocks[0][b":status"] == b"415"
    assert answer.ended
    assert answer.reset == wire.CODES.index("NO_ERROR")


def test_window_of_one() -> None:
    """DATA of one byte, where the window has room for one."""
    frames = exchanged(wire.PREFACE + window(1) + wire.SETTINGS_ACK, GET).frames

    assert sizes(frames) == [1]


def test_window_changes_after_headers() -> None:
    """What waits for a window is sent as soon as SETTINGS open it."""
    frames = exchanged(wire.HANDSHAKE + window(0), GET, window(1)).frames

    assert sizes(frames) == [1]


def test_negative_window() -> None:
    """A window below 0 is remembered: nothing is sent before it is above."""
    connection = exchanged(wire.HANDSHAKE + window(3), GET, window(2), wire.window_update(1, 1))
    assert sizes(connection.frames) == [3]

    connection = exchanged(wire.HANDSHAKE + window(3), GET, window(2), wire.window_update(1, 2))
    assert sizes(connection.frames) == [3, 1]


def test_many_small_windows() -> None:
    """Byte by byte, the whole text comes, and then its end."""
    whole = exchanged(wire.HANDSHAKE, GET).answers[1]
    updates = [wire.window_update(1, 1)] * len(whole.body)
    connection = exchanged(wire.HANDSHAKE + window(0), GET, *updates)

    assert sizes(connection.frames) == [1] * len(whole.body) + [0]
    assert connection.answers[1] == whole


def test_window_of_the_connection() -> None:
    """What waits for the connection's window is sent once that is wider, each stream in turn."""
    calls = b"".join(wire.call(number, bytes(40_000)) for number in (1, 3))
    connection = exchanged(wire.HANDSHAKE, calls[: len(calls) // 2], calls[len(calls) // 2 :])
    came = sum(len(one.payload) for one in connection.frames if one.kind == wire.DATA)
    assert came == 65535

    connection = exchanged(wire.HANDSHAKE, calls, wire.window_update(0, 100_000))
    assert [connection.answers[number].messages for number in (1, 3)] == [[bytes(40_000)]] * 2


@pytest.mark.parametrize("frame", [16_384, 16_385, 100_000])
def test_max_frame_size(frame: int) -> None:
    """No frame is larger than the client takes."""
    opened = wire.settings({wire.MAX_FRAME: frame, wire.INITIAL_WINDOW: 1 << 20}) + wire.window_update(0, 1 << 20)
    connection = exchanged(wire.HANDSHAKE + opened, wire.call(1, bytes(60_000)))

    assert max(sizes(connection.frames)) == min(frame, 60_005)
    assert connection.answers[1].messages == [bytes(60_000)]


def test_too_many_streams() -> None:
    """A stream beyond the announced number is refused, and may be tried again; the others go on."""
    limits = Http2Limits(concurrent_streams=3)
    opened = [wire.headers(number, wire.request(), wire.END_HEADERS) for number in (1, 3, 5, 7)]
    end = wire.data(3, wire.message(b"x"), ends=True)
    connection = exchanged(wire.HANDSHAKE, *opened, end, wire.call(9, b"y"), limits=limits)

    answers = connection.answers
    assert answers[7].reset == wire.CODES.index("REFUSED_STREAM")
    assert answers[3].messages == [b"x"]
    assert answers[9].messages == [b"y"]


def test_goaway_is_last() -> None:
    """Nothing follows the GOAWAY for a fault, windows included; the transport is closed."""
    opened = b"".join(wire.headers(number, wire.request(), wire.END_HEADERS) for number in (1, 3, 5))
    sent = b"".join(wire.data(number, bytes(60_000)) for number in (1, 3, 5))
    connection = exchanged(wire.HANDSHAKE, opened, sent + wire.ping(bytes(7)))

    assert connection.frames[-1].kind == wire.GOAWAY
    assert int.from_bytes(connection.frames[-1].payload[:4], "big") == 5
    assert connection.transport.closed


def test_goes_away() -> None:
    """A server that stops says which streams it still answers, and does, and refuses those that come later."""

    async def run() -> None:
        connection = DrivenConnection()
        await connection.exchange(wire.HANDSHAKE, wire.headers(1, wire.request(), wire.END_HEADERS))
        connection.protocol.go_away()
        await connection.exchange(wire.call(3, b"late"), wire.data(1, wire.message(b"x"), ends=True))
        answers = connection.answers
        connection.lose()

        goaway = next(one for one in connection.frames if one.kind == wire.GOAWAY)
        assert goaway.payload == (1).to_bytes(4, "big") + bytes(4)
        assert answers[1].messages == [b"x"]
        assert answers[3].reset == wire.CODES.index("REFUSED_STREAM")

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 1 << 20])
def test_smaller_table(size: int) -> None:
    """A client that keeps a smaller table for our headers is told once that we use none."""
    shrunk = exchanged(wire.HANDSHAKE, wire.settings({wire.TABLE_SIZE: size}), wire.call(1, b"x"), wire.call(3, b"y"))
    blocks = [one.payload for one in shrunk.frames if one.kind == wire.HEADERS]

    assert [block[:1] == b"\x20" for block in blocks] == [size < 4096, False, False, False]
    assert shrunk.answers[3].status == 0


def test_a_large_message_leaves_the_loop_to_others() -> None:
    """Neither what comes in nor what goes out is carried in one go: after some bytes reading stops until the loop's
    next turn, and what is to be written waits for it."""
    size, wide = 8 * TURN_BYTES, (1 << 31) - 1 - 65535
    body = wire.message(bytes(size))
    frames = b"".join(wire.data(1, body[at : at + 16_384]) for at in range(0, len(body), 16_384))

    async def run() -> tuple[list[int], list[int]]:
        """Bytes of each turn that came in, and that went out."""
        connection = DrivenConnection(Http2Limits(initial_window_bytes=wide, connection_window_bytes=wide))
        peer = wire.HANDSHAKE + window(wide) + wire.window_update(0, wide)
        await connection.exchange(peer, wire.headers(1, wire.request(), wire.END_HEADERS))
        rest, came, left = memoryview(frames + wire.data(1, ends=True)), [], []
        for _ in range(1000):
            came.append(0)
            while rest and connection.transport.reading:
                buffer = memoryview(connection.protocol.get_buffer(len(rest)))
                count = min(len(buffer), len(rest))
                buffer[:count] = rest[:count]
                connection.protocol.buffer_updated(count)
                rest = rest[count:]
                came[-1] += count
            before = len(connection.transport.written)
            await asyncio.sleep(0)
            left.append(len(connection.transport.written) - before)
        assert connection.answers[1].messages == [bytes(size)]
        return came, left

    came, left = asyncio.run(run())
    assert max(came) <= TURN_BYTES + 16_384
    assert max(left) <= TURN_BYTES + MOST_AT_ONCE_BYTES
    assert len([count for count in left if count > 16_384]) >= 4

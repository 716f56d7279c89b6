"""Rules of RFC 9113, sections 6 and 7: each type of frame, and error codes."""

from __future__ import annotations

from tests.server.front.http2 import wire
from tests.server.front.http2.rules import (
    ANSWERED,
    CALL,
    FLOW,
    GET,
    LAST,
    OPEN_GET,
    OPENED,
    PASSED,
    PROTOCOL,
    RST_CLOSED,
    RST_PROTOCOL,
    SIZE,
    Rule,
    rule,
)

REQUEST = wire.request()
RST_FLOW, RST_SIZE = "RST_STREAM FLOW_CONTROL_ERROR", "RST_STREAM FRAME_SIZE_ERROR"
MOST = wire.MOST_WINDOW
HELLO = wire.message(b"hello")

DATA = [
    rule("6.1", "DATA on stream 0", PROTOCOL, wire.data(0, b"test", ends=True)),
    rule("6.1", "DATA after the end", RST_CLOSED, GET + wire.data(1, b"test")),
    rule("6.1", "padding longer than the frame", PROTOCOL, OPENED, wire.frame(0, 9, 1, b"\x06test1")),
    rule("6.1", "padding as long as the frame", PROTOCOL, OPENED, wire.frame(0, 9, 1, b"\x05test")),
    rule("6.1", "padded, and without the padding's length", SIZE, OPENED, wire.frame(0, 9, 1)),
    rule(
        "6.1",
        "several frames",
        ANSWERED,
        OPENED,
        *(wire.data(1, HELLO[at : at + 1]) for at in range(10)),
        wire.data(1, ends=True),
    ),
    rule("6.1", "padded", ANSWERED, OPENED, wire.data(1, HELLO, ends=True, padding=255)),
    rule("6.1", "padded by nothing", ANSWERED, OPENED, wire.data(1, HELLO, ends=True, padding=0)),
    rule("6.1", "padding alone", ANSWERED, OPENED, wire.data(1, padding=255), LAST),
]

HEADERS = [
    rule("6.2", "HEADERS on stream 0", PROTOCOL, wire.headers(0, REQUEST)),
    rule("6.2", "padding longer than the frame", PROTOCOL, wire.headers(1, b"\xff" + REQUEST[:100], 0x0D)),
    rule("6.2", "padded, and without the padding's length", PROTOCOL, wire.headers(1, b"", 0x0D)),
    rule("6.2", "padded", ANSWERED, wire.headers(1, b"\x10" + wire.plain_request() + bytes(16), 0x0D)),
    rule("6.2", "with priority", ANSWERED, wire.headers(1, b"\0\0\0\0\xff" + wire.plain_request(), 0x25)),
    rule(
        "6.2",
        "padded, and with priority",
        ANSWERED,
        wire.headers(1, b"\4\0\0\0\0\xff" + wire.plain_request() + bytes(4), 0x2D),
    ),
    rule("6.2", "too short for its priority", SIZE, wire.headers(1, b"\0\0\0", 0x25)),
]

PRIORITY = [
    rule("6.3", "PRIORITY on stream 0", PROTOCOL, wire.priority(0)),
    rule("6.3", "PRIORITY of four bytes", RST_SIZE, OPENED, wire.frame(2, 0, 1, bytes(4))),
    rule("6.3", "PRIORITY of six bytes", RST_SIZE, OPENED, wire.frame(2, 0, 1, bytes(6))),
    rule("6.3", "PRIORITY of four bytes on an idle stream", SIZE, wire.frame(2, 0, 1, bytes(4))),
    rule("6.3", "PRIORITY of an open stream", ANSWERED, OPENED, wire.priority(1, on=3, weight=255), LAST),
    rule("6.3", "exclusive PRIORITY", ANSWERED, OPENED, wire.priority(1, on=1 << 31 | 3), LAST),
]

RESETS = [
    rule("6.4", "RST_STREAM on stream 0", PROTOCOL, wire.rst_stream(0)),
    rule("6.4", "RST_STREAM of an idle stream", PROTOCOL, wire.rst_stream(1)),
    rule("6.4", "RST_STREAM of three bytes", SIZE, OPENED, wire.frame(3, 0, 1, bytes(3))),
    rule("6.4", "RST_STREAM of five bytes", SIZE, OPENED, wire.frame(3, 0, 1, bytes(5))),
    rule("6.4", "RST_STREAM", PASSED, OPENED, wire.rst_stream(1), wire.ping()),
    rule("7", "RST_STREAM with an unknown code", PASSED, OPENED, wire.rst_stream(1, 0xFF), wire.ping()),
]

SETTINGS = [
    rule("6.5", "an acknowledgement with a payload", SIZE, wire.frame(4, 1, 0, bytes(6))),
    rule("6.5", "SETTINGS on a stream", PROTOCOL, wire.frame(4, 0, 1, bytes(6))),
    rule("6.5", "an acknowledgement on a stream", PROTOCOL, wire.frame(4, 1, 1)),
    rule("6.5", "SETTINGS of three bytes", SIZE, wire.frame(4, 0, 0, bytes(3))),
    rule("6.5", "SETTINGS of seven bytes", SIZE, wire.frame(4, 0, 0, bytes(7))),
    rule("6.5", "SETTINGS of nothing", ANSWERED, wire.settings(), CALL),
    rule("6.5", "an acknowledgement that nobody asked for", ANSWERED, wire.SETTINGS_ACK, CALL),
    rule("6.5.2", "ENABLE_PUSH = 2", PROTOCOL, wire.settings({wire.ENABLE_PUSH: 2})),
    rule("6.5.2", "ENABLE_PUSH = 0", ANSWERED, wire.settings({wire.ENABLE_PUSH: 0}), CALL),
    rule("6.5.2", "ENABLE_PUSH = 1", ANSWERED, wire.settings({wire.ENABLE_PUSH: 1}), CALL),
    rule("6.5.2", "INITIAL_WINDOW_SIZE = 2^31", FLOW, wire.settings({wire.INITIAL_WINDOW: MOST + 1})),
    rule("6.5.2", "INITIAL_WINDOW_SIZE = 2^31 - 1", ANSWERED, wire.settings({wire.INITIAL_WINDOW: MOST}), CALL),
    rule("6.5.2", "MAX_FRAME_SIZE = 2^14 - 1", PROTOCOL, wire.settings({wire.MAX_FRAME: (1 << 14) - 1})),
    rule("6.5.2", "MAX_FRAME_SIZE = 2^24", PROTOCOL, wire.settings({wire.MAX_FRAME: 1 << 24})),
    rule("6.5.2", "MAX_FRAME_SIZE = 2^24 - 1", ANSWERED, wire.settings({wire.MAX_FRAME: (1 << 24) - 1}), CALL),
    rule("6.5.2", "HEADER_TABLE_SIZE = 2^32 - 1", ANSWERED, wire.settings({wire.TABLE_SIZE: (1 << 32) - 1}), CALL),
    rule("6.5.2", "MAX_CONCURRENT_STREAMS = 0", ANSWERED, wire.settings({wire.MAX_STREAMS: 0}), CALL),
    rule("6.5.2", "an unknown setting", ANSWERED, wire.settings({0xFF: 0xFFFFFFFF}), CALL),
    rule("6.5.3", "the last of two values counts", ANSWERED, wire.settings([(4, 0), (4, 65535)]), CALL),
    rule("6.5.3", "each of two values is checked", FLOW, wire.settings([(4, MOST + 1), (4, 65535)]), CALL),
    rule("6.9.2", "a window beyond 2^31 - 1", FLOW, OPENED, wire.window_update(1, 1), wire.settings({4: MOST})),
]

OTHERS = [
    rule("6.6", "PUSH_PROMISE", PROTOCOL, OPENED, wire.frame(5, 4, 1, b"\0\0\0\2" + REQUEST)),
    rule("6.6", "PUSH_PROMISE on stream 0", PROTOCOL, wire.frame(5, 4, 0, b"\0\0\0\2" + REQUEST)),
    rule("6.7", "PING on a stream", PROTOCOL, wire.frame(6, 0, 1, bytes(8))),
    rule("6.7", "PING of seven bytes", SIZE, wire.ping(bytes(7))),
    rule("6.7", "PING of nine bytes", SIZE, wire.ping(bytes(9))),
    rule("6.7", "an acknowledgement of seven bytes", SIZE, wire.ping(bytes(7), wire.ACK)),
    rule("6.7", "an acknowledgement that nobody asked for", ANSWERED, wire.ping(flags=wire.ACK), CALL),
    rule("6.8", "GOAWAY on a stream", PROTOCOL, wire.frame(7, 0, 1, bytes(8))),
    rule("6.8", "GOAWAY of seven bytes", SIZE, wire.frame(7, 0, 0, bytes(7))),
    rule("6.8", "GOAWAY leaves what is open", ANSWERED, OPENED, wire.goaway(), LAST),
    rule("6.8", "GOAWAY with a text", ANSWERED, OPENED, wire.goaway(0, 0, b"bye"), LAST),
    rule("7", "GOAWAY with an unknown code", ANSWERED, OPENED, wire.goaway(0xFF), LAST),
    rule("6.9", "WINDOW_UPDATE of nothing, of the connection", PROTOCOL, wire.window_update(0, 0)),
    rule("6.9", "WINDOW_UPDATE of nothing, of a stream", RST_PROTOCOL, OPENED, wire.window_update(1, 0)),
    rule("6.9", "WINDOW_UPDATE of three bytes", SIZE, wire.frame(8, 0, 0, bytes(3))),
    rule("6.9", "WINDOW_UPDATE of five bytes on a stream", SIZE, OPENED, wire.frame(8, 0, 1, bytes(5))),
    rule("6.9", "WINDOW_UPDATE with the reserved bit", ANSWERED, wire.frame(8, 0, 0, b"\x80\0\0\1"), CALL),
    rule("6.9", "WINDOW_UPDATE of an answered GET whose client goes on", ANSWERED, OPEN_GET, wire.window_update(1, 9)),
    rule(
        "6.9.1",
        "a connection's window beyond 2^31 - 1",
        FLOW,
        wire.window_update(0, MOST) + wire.window_update(0, MOST),
    ),
    rule("6.9.1", "a stream's window beyond 2^31 - 1", RST_FLOW, OPENED + wire.window_update(1, MOST)),
    rule(
        "6.9.1",
        "the same of an answered GET",
        RST_FLOW,
        OPEN_GET,
        wire.window_update(1, MOST),
        wire.window_update(1, MOST),
    ),
    rule("6.10", "CONTINUATION", ANSWERED, wire.headers(1, REQUEST[:9], 1) + wire.continuation(1, REQUEST[9:])),
    rule(
        "6.10",
        "several CONTINUATIONs",
        ANSWERED,
        wire.headers(1, b"", 1)
        + wire.continuation(1, REQUEST[:50], 0)
        + wire.continuation(1, b"", 0)
        + wire.continuation(1, REQUEST[50:]),
    ),
    rule("6.10", "CONTINUATION and another frame", PROTOCOL, wire.headers(1, REQUEST[:9], 1) + wire.ping()),
    rule(
        "6.10",
        "CONTINUATION on stream 0",
        PROTOCOL,
        wire.headers(1, REQUEST[:9], 1) + wire.continuation(0, REQUEST[9:]),
    ),
    rule(
        "6.10",
        "CONTINUATION of another stream",
        PROTOCOL,
        wire.headers(1, REQUEST[:9], 1) + wire.continuation(3, REQUEST[9:]),
    ),
    rule("6.10", "CONTINUATION of a whole block", PROTOCOL, OPENED, wire.continuation(1, b"")),
    rule(
        "6.10",
        "CONTINUATION after a whole CONTINUATION",
        PROTOCOL,
        wire.headers(1, REQUEST, 0) + wire.continuation(1, b"") + wire.continuation(1, b""),
    ),
    rule("6.10", "CONTINUATION after DATA", PROTOCOL, OPENED, wire.data(1, b"x"), wire.continuation(1, b"")),
]

# Where the bytes come in at once: a call that has begun to take them lets in more.
OVERRUNS = [
    rule("6.9.1", "more on a stream than its window", RST_FLOW, OPENED, wire.data(1, bytes(65536))),
    rule(
        "6.9.1",
        "more on a stream than its window, by padding",
        RST_FLOW,
        OPENED + wire.data(1, bytes(65535 - 255)) + wire.data(1, padding=255),
    ),
]

RULES: list[Rule] = [*DATA, *HEADERS, *PRIORITY, *RESETS, *SETTINGS, *OTHERS]

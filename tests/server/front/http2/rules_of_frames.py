"""Rules of RFC 9113, sections 3 to 5: the preface, frames, streams and their states."""

from __future__ import annotations

from tests.server.front.http2 import wire
from tests.server.front.http2.rules import (
    ANSWERED,
    CALL,
    CALM,
    CLOSED,
    COMPRESSION,
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

MAX_FRAME = 1 << 20  # what the server announces
THIRD = wire.call(3, b"hello")
REQUEST = wire.request()
PING = wire.ping()
UNKNOWN = wire.frame(0x16, 0, 0, b"12345678")

STARTING = [
    rule("3.4", "the preface and SETTINGS begin a connection", ANSWERED, CALL),
    rule("3.4", "a preface that is not HTTP/2's", PROTOCOL, begun=b"INVALID CONNECTION PREFACE\r\n\r\n"),
    rule("3.4", "a request of HTTP/1.1", PROTOCOL, begun=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    rule("3.4", "a preface wrong at its last byte", PROTOCOL, begun=wire.PREFACE[:-1] + b"x"),
    rule("3.4", "no SETTINGS after the preface", PROTOCOL, CALL, begun=wire.PREFACE),
    rule("3.4", "an acknowledgement in place of SETTINGS", PROTOCOL, CALL, begun=wire.PREFACE + wire.SETTINGS_ACK),
    rule("3.4", "DATA before SETTINGS", PROTOCOL, begun=wire.PREFACE + wire.data(1, b"x")),
    rule("3.4", "an unknown frame before SETTINGS", PROTOCOL, begun=wire.PREFACE + UNKNOWN),
    rule("3.4", "a call before SETTINGS are acknowledged", ANSWERED, CALL, begun=wire.PREFACE + wire.settings()),
    rule(
        "3.4", "a preface that comes by the byte", ANSWERED, *(bytes([one]) for one in wire.HANDSHAKE), CALL, begun=b""
    ),
]

FRAMES = [
    rule("4.1", "a frame of unknown type", PASSED, UNKNOWN, PING),
    rule("4.1", "undefined flags", ANSWERED, wire.ping(flags=0xF6), GET),
    rule("4.1", "undefined flags of HEADERS", ANSWERED, wire.headers(1, wire.plain_request(), wire.ENDS | 0x52)),
    rule("4.1", "the reserved bit of a stream's number", ANSWERED, wire.frame(6, 0, 1 << 31, b"12345678"), GET),
    rule("4.1", "an unknown frame larger than a table", ANSWERED, wire.frame(0x16, 0, 0, bytes(100_000)), CALL),
    rule("4.2", "DATA of 2^14 bytes", ANSWERED, OPENED, wire.data(1, wire.message(bytes(16379)), ends=True)),
    rule("4.2", "DATA larger than announced", SIZE, OPENED, wire.data(1, bytes(MAX_FRAME + 1))),
    rule("4.2", "HEADERS larger than announced", SIZE, wire.headers(1, bytes(MAX_FRAME + 1))),
    rule("4.2", "HEADERS larger than any header block may be", CALM, wire.headers(1, bytes(20_000))),
    rule("4.2", "an unknown frame larger than announced", SIZE, wire.frame(0x16, 0, 0, bytes(MAX_FRAME + 1))),
    rule("4.2", "SETTINGS larger than announced", SIZE, wire.frame(4, 0, 0, bytes(MAX_FRAME + 2))),
    rule("4.3", "a header block that cannot be decoded", COMPRESSION, wire.headers(1, b"\xff\xff\xff\xff\xff\xff")),
    rule("4.3", "trailers that cannot be decoded", COMPRESSION, OPENED, wire.headers(1, b"\x80")),
    rule(
        "4.3",
        "PRIORITY within a header block",
        PROTOCOL,
        wire.headers(1, REQUEST, wire.END_STREAM) + wire.priority(1) + wire.continuation(1, b""),
    ),
    rule(
        "4.3",
        "another stream's HEADERS within a header block",
        PROTOCOL,
        wire.headers(1, REQUEST, wire.END_STREAM) + wire.headers(3, REQUEST),
    ),
    rule("4.3", "DATA within a header block", PROTOCOL, wire.headers(1, REQUEST, 0) + wire.data(1, b"x")),
]

STATES = [
    rule("5.1", "idle: DATA", PROTOCOL, wire.data(1, b"test", ends=True)),
    rule("5.1", "idle: RST_STREAM", PROTOCOL, wire.rst_stream(1)),
    rule("5.1", "idle: WINDOW_UPDATE", PROTOCOL, wire.window_update(1, 100)),
    rule("5.1", "idle: CONTINUATION", PROTOCOL, wire.continuation(1, REQUEST)),
    rule("5.1", "idle: PRIORITY", ANSWERED, wire.priority(1), GET),
    rule("5.1", "idle: PRIORITY, then a smaller stream", ANSWERED, wire.priority(5), GET),
    rule("5.1", "idle, of even number: DATA", PROTOCOL, THIRD, wire.data(2, b"x")),
    rule("5.1", "idle, of even number: WINDOW_UPDATE", PROTOCOL, THIRD, wire.window_update(2, 1)),
    rule("5.1", "idle, of even number: RST_STREAM", PROTOCOL, THIRD, wire.rst_stream(2)),
    rule("5.1", "half closed (remote): DATA", RST_CLOSED, GET + wire.data(1, b"test", ends=True)),
    rule("5.1", "half closed (remote): HEADERS", RST_CLOSED, GET + GET),
    rule("5.1", "half closed (remote): CONTINUATION", PROTOCOL, GET + wire.continuation(1, b"")),
    rule("5.1", "half closed (remote): WINDOW_UPDATE", ANSWERED, GET + wire.window_update(1, 10)),
    rule("5.1", "half closed (remote): PRIORITY", ANSWERED, GET + wire.priority(1)),
    rule("5.1", "half closed (remote): RST_STREAM", PASSED, GET + wire.rst_stream(1), PING),
    rule("5.1", "reset by its client: DATA", RST_CLOSED, OPENED, wire.rst_stream(1), wire.data(1, b"test")),
    rule("5.1", "reset by its client: HEADERS", RST_CLOSED, OPENED, wire.rst_stream(1), GET),
    rule("5.1", "reset by its client: CONTINUATION", PROTOCOL, OPENED, wire.rst_stream(1), wire.continuation(1, b"")),
    rule("5.1", "reset by its client: WINDOW_UPDATE", PASSED, OPENED, wire.rst_stream(1), wire.window_update(1, 1)),
    rule("5.1", "reset by its client: RST_STREAM", PASSED, OPENED, wire.rst_stream(1), wire.rst_stream(1)),
    rule("5.1", "reset by us: DATA under way", RST_PROTOCOL, OPENED, OPENED, wire.data(1, b"late")),
    rule("5.1", "reset by us: trailers under way", RST_PROTOCOL, OPENED, OPENED, wire.headers(1, b"")),
    rule("5.1", "reset by us: WINDOW_UPDATE under way", RST_PROTOCOL, OPENED, OPENED, wire.window_update(1, 9)),
    rule("5.1", "reset by us: RST_STREAM under way", RST_PROTOCOL, OPENED, OPENED, wire.rst_stream(1)),
    rule("5.1", "closed: DATA", CLOSED, GET, wire.data(1, b"test", ends=True)),
    rule("5.1", "closed: HEADERS", CLOSED, GET, GET),
    rule("5.1", "closed: CONTINUATION", PROTOCOL, GET, wire.continuation(1, b"")),
    rule("5.1", "closed: PRIORITY", ANSWERED, GET, wire.priority(1)),
    rule("5.1", "closed: WINDOW_UPDATE", ANSWERED, GET, wire.window_update(1, 1)),
    rule("5.1", "closed: WINDOW_UPDATE of nothing", ANSWERED, GET, wire.window_update(1, 0)),
    rule("5.1", "closed: RST_STREAM", ANSWERED, GET, wire.rst_stream(1)),
    rule("5.1.1", "a stream of even number", PROTOCOL, wire.headers(2, REQUEST)),
    rule("5.1.1", "a stream of even number below the last", PROTOCOL, THIRD, wire.headers(2, REQUEST)),
    rule("5.1.1", "a stream below the last that was skipped", PROTOCOL, wire.call(5, b"x"), wire.call(3, b"x")),
    rule("5.1.1", "streams may be skipped", ANSWERED, CALL, wire.call(101, b"x")),
    rule("5.3", "HEADERS that depend on themselves", RST_PROTOCOL, wire.headers(1, b"\0\0\0\1\x0f" + REQUEST, 0x25)),
    rule("5.3", "PRIORITY that depends on itself", RST_PROTOCOL, OPENED, wire.priority(1, on=1)),
    rule("5.3", "HEADERS with a dependency", ANSWERED, wire.headers(1, b"\x80\0\0\7\xff" + wire.plain_request(), 0x25)),
    rule("5.3", "PRIORITY of an idle stream on another idle one", ANSWERED, wire.priority(3, on=7, weight=255), GET),
    rule("5.4.1", "what comes after a fault", PROTOCOL, wire.frame(6, 0, 1, bytes(8)) + CALL),
    rule("5.4.2", "a stream's fault leaves others alone", RST_PROTOCOL, OPENED, OPENED, wire.call(3, b"x")),
    rule("5.5", "a frame of an extension", ANSWERED, wire.frame(0xBE, 0xFF, 1, b"x"), CALL),
    rule("5.5", "a setting of an extension", ANSWERED, wire.settings({0xABCD: 7}), CALL),
    rule("5.5", "a frame of an extension within a header block", PROTOCOL, wire.headers(1, REQUEST, 0) + UNKNOWN),
    rule("5.1", "half closed (local): DATA goes on", ANSWERED, OPEN_GET, wire.data(1, b"test", ends=True)),
    rule("5.1", "half closed (local): trailers", ANSWERED, OPEN_GET, wire.headers(1, b"")),
    rule("5.1", "a call that is opened and ended by DATA", ANSWERED, OPENED, LAST),
]

RULES: list[Rule] = [*STARTING, *FRAMES, *STATES]

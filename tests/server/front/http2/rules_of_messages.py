"""Rules of RFC 9113, section 8, and of RFC 7541: requests, and how their headers are compressed."""

from __future__ import annotations

from tests.server.front.http2 import wire
from tests.server.front.http2.rules import (
    ANSWERED,
    COMPRESSION,
    GET,
    LAST,
    OPEN_GET,
    OPENED,
    PROTOCOL,
    RST_PROTOCOL,
    Rule,
    rule,
)

METHOD, SCHEME, PATH = (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")
AUTHORITY = (b":authority", b"localhost")


def get(*fields: wire.Field, flags: int = wire.ENDS) -> bytes:
    return wire.headers(1, wire.block(fields), flags)


def with_field(name: bytes, value: bytes) -> bytes:
    return get(METHOD, SCHEME, PATH, AUTHORITY, (name, value))


def trailers(*fields: wire.Field) -> bytes:
    return wire.headers(1, wire.block(fields))


REQUESTS = [
    rule("8.1", "a GET", ANSWERED, GET),
    rule("8.1", "a HEAD", ANSWERED, wire.headers(1, wire.plain_request(b"HEAD"))),
    rule(
        "8.1",
        "a POST that is no call",
        ANSWERED,
        wire.headers(1, wire.plain_request(b"POST"), 4),
        wire.data(1, b"test", ends=True),
    ),
    rule(
        "8.1",
        "a POST with trailers",
        ANSWERED,
        wire.headers(1, wire.plain_request(b"POST"), 4),
        wire.data(1, b"test"),
        trailers((b"x-test", b"ok")),
    ),
    rule(
        "8.1",
        "trailers of a call",
        ANSWERED,
        OPENED,
        wire.data(1, wire.message(b"hello")),
        trailers((b"x-test", b"ok")),
    ),
    rule("8.1", "a second header block that does not end", RST_PROTOCOL, OPEN_GET, OPEN_GET),
    rule("8.1", "a second header block of a call that does not end", RST_PROTOCOL, OPENED, wire.headers(1, b"", 4)),
    rule(
        "8.1.1",
        "content-length is not what came",
        RST_PROTOCOL,
        get(METHOD, SCHEME, PATH, (b"content-length", b"1"), flags=4),
        wire.data(1, b"test", ends=True),
    ),
    rule(
        "8.1.1",
        "content-length is not what came in two frames",
        RST_PROTOCOL,
        get(METHOD, SCHEME, PATH, (b"content-length", b"1"), flags=4),
        wire.data(1, b"test"),
        wire.data(1, b"test", ends=True),
    ),
    rule(
        "8.1.1",
        "content-length is more than what came",
        RST_PROTOCOL,
        get(METHOD, SCHEME, PATH, (b"content-length", b"5"), flags=4),
        wire.data(1, b"test", ends=True),
    ),
    rule(
        "8.1.1",
        "content-length is more than what came before trailers",
        RST_PROTOCOL,
        get(METHOD, SCHEME, PATH, (b"content-length", b"5"), flags=4),
        wire.data(1, b"test"),
        trailers(),
    ),
    rule("8.1.1", "content-length of a request without DATA", RST_PROTOCOL, with_field(b"content-length", b"1")),
    rule("8.1.1", "content-length is no number", RST_PROTOCOL, with_field(b"content-length", b"one")),
    rule(
        "8.1.1",
        "content-length twice, and different",
        RST_PROTOCOL,
        get(METHOD, SCHEME, PATH, (b"content-length", b"0"), (b"content-length", b"1")),
    ),
    rule(
        "8.1.1",
        "content-length is what came",
        ANSWERED,
        wire.headers(1, wire.request(extra=[(b"content-length", b"10")]), 4),
        LAST,
    ),
    rule("8.1.1", "content-length of 0", ANSWERED, with_field(b"content-length", b"0")),
    rule(
        "8.1.1",
        "content-length is not what a call sends",
        RST_PROTOCOL,
        wire.headers(1, wire.request(extra=[(b"content-length", b"3")]), 4),
        LAST,
    ),
]

FIELDS = [
    rule("8.2.1", "upper case in a name", RST_PROTOCOL, with_field(b"X-TEST", b"ok")),
    rule("8.2.1", "a space in a name", RST_PROTOCOL, with_field(b"x test", b"ok")),
    rule("8.2.1", "a colon in a name", RST_PROTOCOL, with_field(b"x:test", b"ok")),
    rule("8.2.1", "a byte above ASCII in a name", RST_PROTOCOL, with_field(b"x\xfftest", b"ok")),
    rule("8.2.1", "an empty name", RST_PROTOCOL, with_field(b"", b"ok")),
    rule("8.2.1", "NUL in a value", RST_PROTOCOL, with_field(b"x-test", b"a\0b")),
    rule("8.2.1", "CR in a value", RST_PROTOCOL, with_field(b"x-test", b"a\rb")),
    rule("8.2.1", "LF in a value", RST_PROTOCOL, with_field(b"x-test", b"a\nb")),
    rule("8.2.1", "a space before a value", RST_PROTOCOL, with_field(b"x-test", b" ok")),
    rule("8.2.1", "a tab after a value", RST_PROTOCOL, with_field(b"x-test", b"ok\t")),
    rule("8.2.1", "NUL in a pseudo-header", RST_PROTOCOL, get(METHOD, SCHEME, (b":path", b"/\0"))),
    rule("8.2.1", "LF in :authority", RST_PROTOCOL, get(METHOD, SCHEME, PATH, (b":authority", b"a\nb"))),
    rule("8.2.1", "an empty value", ANSWERED, with_field(b"x-test", b"")),
    rule("8.2.1", "a space within a value", ANSWERED, with_field(b"x-test", b"a b\tc")),
    rule("8.2.1", "upper case in trailers", RST_PROTOCOL, OPENED, trailers((b"X-TEST", b"ok"))),
    rule("8.2.2", "connection", RST_PROTOCOL, with_field(b"connection", b"keep-alive")),
    rule("8.2.2", "keep-alive", RST_PROTOCOL, with_field(b"keep-alive", b"1")),
    rule("8.2.2", "proxy-connection", RST_PROTOCOL, with_field(b"proxy-connection", b"keep-alive")),
    rule("8.2.2", "transfer-encoding", RST_PROTOCOL, with_field(b"transfer-encoding", b"chunked")),
    rule("8.2.2", "connection in trailers", RST_PROTOCOL, OPENED, trailers((b"connection", b"close"))),
    rule("8.2.2", "te: trailers", ANSWERED, with_field(b"te", b"trailers")),
    rule("8.2.2", "te: something else", RST_PROTOCOL, with_field(b"te", b"trailers, deflate;q=0.5")),
    rule("8.2.3", "cookies in pieces", ANSWERED, get(METHOD, SCHEME, PATH, (b"cookie", b"a=b"), (b"cookie", b"c=d"))),
    rule("8.3", "an unknown pseudo-header", RST_PROTOCOL, with_field(b":test", b"ok")),
    rule("8.3", "a response's pseudo-header", RST_PROTOCOL, get((b":status", b"200"), METHOD, SCHEME, PATH)),
    rule("8.3", "a pseudo-header in trailers", RST_PROTOCOL, OPENED, trailers((b":method", b"GET"))),
    rule("8.3", "a pseudo-header in trailers of a POST", RST_PROTOCOL, OPEN_GET, wire.data(1, b"x"), trailers(METHOD)),
    rule("8.3", "a pseudo-header after a plain one", RST_PROTOCOL, get(METHOD, SCHEME, (b"x-test", b"ok"), PATH)),
    rule("8.3.1", ":path is empty", RST_PROTOCOL, get(METHOD, SCHEME, (b":path", b""))),
    rule("8.3.1", "no :method", RST_PROTOCOL, get(SCHEME, PATH, AUTHORITY)),
    rule("8.3.1", "no :scheme", RST_PROTOCOL, get(METHOD, PATH, AUTHORITY)),
    rule("8.3.1", "no :path", RST_PROTOCOL, get(METHOD, SCHEME, AUTHORITY)),
    rule("8.3.1", "no :authority", ANSWERED, get(METHOD, SCHEME, PATH)),
    rule("8.3.1", ":method twice", RST_PROTOCOL, get(METHOD, METHOD, SCHEME, PATH)),
    rule("8.3.1", ":scheme twice", RST_PROTOCOL, get(METHOD, SCHEME, SCHEME, PATH)),
    rule("8.3.1", ":path twice", RST_PROTOCOL, get(METHOD, SCHEME, PATH, PATH)),
    rule("8.3.1", ":authority twice", RST_PROTOCOL, get(METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY)),
    rule("8.3.1", "no header at all", RST_PROTOCOL, wire.headers(1, b"")),
    rule("8.4", "PUSH_PROMISE", PROTOCOL, wire.frame(5, 4, 1, b"\0\0\0\2" + wire.request())),
    rule("8.6", "upgrade", RST_PROTOCOL, with_field(b"upgrade", b"h2c")),
]


def hpacked(name: str, outcome: str, more: bytes, before: bytes = b"", section: str = "HPACK 6.2") -> Rule:
    """A GET with more in its header block."""
    return rule(section, name, outcome, wire.headers(1, before + wire.plain_request() + more))


def field_of(pattern: int, bits: int, index: int, value: bytes = b"ok") -> bytes:
    """A literal whose name is in a table."""
    return wire.number(index, bits, pattern) + wire.string(value)


# Before the smaller table is acknowledged: a GET that puts a field in the table, and one after it.
UNACKNOWLEDGED = wire.PREFACE + wire.settings()
USING_GET = wire.headers(1, wire.plain_request() + wire.literal(b"x-test", b"ok", 0x40))
NEXT_GET = wire.headers(3, wire.plain_request())

# "test" in Huffman's code is 49 50 9f, with three bits of padding.
HPACK = [
    hpacked("an index beyond the tables", COMPRESSION, wire.number(70, 7, 0x80), section="HPACK 2.3.3"),
    hpacked("a name beyond the tables", COMPRESSION, field_of(0x40, 6, 70), section="HPACK 2.3.3"),
    hpacked("an index just beyond the static table", COMPRESSION, b"\xbe", section="HPACK 2.3.3"),
    hpacked("a size update at the end of a block", COMPRESSION, b"\x20", section="HPACK 4.2"),
    hpacked("two size updates at the beginning", ANSWERED, b"", b"\x20\x20", section="HPACK 4.2"),
    hpacked("an update beyond what is announced", COMPRESSION, b"", b"\x21", section="HPACK 6.3"),
    hpacked(
        "an update to 4096, which is no longer allowed",
        COMPRESSION,
        b"",
        wire.number(4096, 5, 0x20),
        section="HPACK 4.2",
    ),
    hpacked("an update of the table to nothing", ANSWERED, b"", b"\x20", section="HPACK 6.3"),
    rule("HPACK 4.2", "no update of a table that was never used", ANSWERED, GET),
    rule(
        "HPACK 4.2",
        "no update of a table that was used",
        COMPRESSION,
        USING_GET,
        wire.SETTINGS_ACK,
        NEXT_GET,
        begun=UNACKNOWLEDGED,
    ),
    rule(
        "HPACK 4.2",
        "an update of a table that was used",
        ANSWERED,
        USING_GET,
        wire.SETTINGS_ACK,
        wire.headers(3, b"\x20" + wire.plain_request()),
        begun=UNACKNOWLEDGED,
    ),
    rule(
        "HPACK 2.3.2",
        "a table that was not yet taken away",
        ANSWERED,
        USING_GET,
        wire.headers(3, wire.plain_request() + b"\xbe"),
        begun=UNACKNOWLEDGED,
    ),
    hpacked(
        "nothing is added to a table of no size",
        COMPRESSION,
        wire.literal(b"x-test", b"ok", 0x40) + b"\xbe",
        b"\x20",
        "HPACK 4.4",
    ),
    hpacked("an integer that does not end", COMPRESSION, b"\xff\xff\xff", section="HPACK 5.1"),
    hpacked("an integer beyond 32 bits", COMPRESSION, b"\xff" + b"\xff" * 9 + b"\x01", section="HPACK 5.1"),
    hpacked(
        "an integer with zeros behind it",
        ANSWERED,
        b"\x00\x06x-test\x7f\x81\x00" + bytes([97]) * 128,
        section="HPACK 5.1",
    ),
    hpacked("a name that is cut", COMPRESSION, b"\0\x05abc", section="HPACK 5.2"),
    hpacked("a value that is cut", COMPRESSION, b"\0\1a\x05abc", section="HPACK 5.2"),
    hpacked("a value that is missing", COMPRESSION, b"\0\1a", section="HPACK 5.2"),
    hpacked("a literal that ends after its first byte", COMPRESSION, b"\0", section="HPACK 5.2"),
    hpacked("a name in Huffman's code", ANSWERED, b"\0\x82\x94\xe7\x02ok", section="HPACK 5.2"),
    hpacked("Huffman's padding longer than 7 bits", COMPRESSION, b"\0\1a\x84\x49\x50\x9f\xff", section="HPACK 5.2"),
    hpacked("Huffman's padding of zeros", COMPRESSION, b"\0\1a\x83\x49\x50\x90", section="HPACK 5.2"),
    hpacked(
        "Huffman's end of string within one", COMPRESSION, b"\0\1a\x87\x49\x50\x9f\xff\xff\xff\xff", section="HPACK 5.2"
    ),
    hpacked("index 0", COMPRESSION, b"\x80", section="HPACK 6.1"),
    hpacked("an indexed field", ANSWERED, b"\x90", section="HPACK 6.1"),
    hpacked("a literal with indexing, its name in a table", ANSWERED, field_of(0x40, 6, 58), section="HPACK 6.2.1"),
    hpacked(
        "a literal with indexing, a new name", ANSWERED, wire.literal(b"x-test", b"ok", 0x40), section="HPACK 6.2.1"
    ),
    hpacked("a literal without indexing, its name in a table", ANSWERED, field_of(0, 4, 58), section="HPACK 6.2.2"),
    hpacked("a literal without indexing, a new name", ANSWERED, wire.literal(b"x-test", b"ok"), section="HPACK 6.2.2"),
    hpacked("a literal never indexed, its name in a table", ANSWERED, field_of(0x10, 4, 58), section="HPACK 6.2.3"),
    hpacked(
        "a literal never indexed, a new name", ANSWERED, wire.literal(b"x-test", b"ok", 0x10), section="HPACK 6.2.3"
    ),
]

RULES: list[Rule] = [*REQUESTS, *FIELDS, *HPACK]

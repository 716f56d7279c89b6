"""Bytes of HTTP/2 as a client writes them, and a parser of what a server sends.

Made of nothing of the server's: a test that reads its own mistakes back proves nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
ENDS = END_STREAM | END_HEADERS
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(1, 7)
MOST_WINDOW = (1 << 31) - 1
CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

Field = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def settings(values: Mapping[int, int] | Iterable[tuple[int, int]] = ()) -> bytes:
    pairs = values.items() if isinstance(values, Mapping) else values
    return frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)
# What a client says first. The acknowledgement is what the server waits for before it holds clients to its settings.
HANDSHAKE = PREFACE + settings() + SETTINGS_ACK


def headers(stream_id: int, block: bytes, flags: int = ENDS) -> bytes:
    return frame(HEADERS, flags, stream_id, block)


def data(stream_id: int, payload: bytes = b"", ends: bool = False, padding: int | None = None) -> bytes:
    """padding: bytes of it, in a frame that says it is padded."""
    flags = END_STREAM if ends else 0
    if padding is None:
        return frame(DATA, flags, stream_id, payload)
    return frame(DATA, flags | PADDED, stream_id, bytes([padding]) + payload + bytes(padding))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def priority(stream_id: int, on: int = 0, weight: int = 15) -> bytes:
    return frame(PRIORITY, 0, stream_id, on.to_bytes(4, "big") + bytes([weight]))


def ping(payload: bytes = b"question", flags: int = 0) -> bytes:
    return frame(PING, flags, 0, payload)


def goaway(code: int = 0, last: int = 0, text: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + text)


def continuation(stream_id: int, block: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(CONTINUATION, flags, stream_id, block)


# Header blocks.


def number(value: int, bits: int, pattern: int = 0) -> bytes:
    """RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([pattern | value])
    written = bytearray([pattern | most])
    value -= most
    while value >= 128:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def string(value: bytes) -> bytes:
    return number(len(value), 7) + value


def literal(name: bytes, value: bytes, pattern: int = 0) -> bytes:
    """pattern: 0 without indexing, 0x10 never indexed, 0x40 with."""
    return bytes([pattern]) + string(name) + string(value)


def block(fields: Iterable[Field]) -> bytes:
    """Literals alone: any order, any name, any value."""
    return b"".join(literal(name, value) for name, value in fields)


def request_fields(path: bytes = b"/test/Echo", extra: Iterable[Field] = (), **pseudo: bytes) -> list[Field]:
    """A call of gRPC; pseudo: other values, by the pseudo-header's name."""
    values = {"method": b"POST", "scheme": b"http", "path": path, "authority": b"localhost", **pseudo}
    fields = [(b":" + name.encode(), value) for name, value in values.items()]
    return [*fields, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *extra]


def request(path: bytes = b"/test/Echo", extra: Iterable[Field] = (), **pseudo: bytes) -> bytes:
    return block(request_fields(path, extra, **pseudo))


def plain_request(method: bytes = b"GET", extra: Iterable[Field] = ()) -> bytes:
    """A request of a browser or of a conformance suite."""
    return block([(b":method", method), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"localhost"), *extra])


def compressed(fields: Iterable[Field], table: int = 0, huffman: bool = True) -> bytes:
    """By HPACK, by an encoder that has said it keeps a table of so many bytes."""
    encoder = Encoder()
    encoder.header_table_size = table
    return bytes(encoder.encode(list(fields), huffman=huffman))


# Calls of gRPC.


def message(body: bytes, compressed_flag: int = 0) -> bytes:
    return bytes([compressed_flag]) + len(body).to_bytes(4, "big") + body


def call(stream_id: int, *bodies: bytes, path: bytes = b"/test/Echo", extra: Iterable[Field] = ()) -> bytes:
    """A whole call, with each message in a frame of its own."""
    sent = headers(stream_id, request(path, extra), END_HEADERS)
    if not bodies:
        return headers(stream_id, request(path, extra))
    for body in bodies[:-1]:
        sent += data(stream_id, message(body))
    return sent + data(stream_id, message(bodies[-1]), ends=True)


# What a server sends.


def decoded(value: bytes) -> bytes:
    """The value of a key that ends in -bin."""
    return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)


@dataclass(frozen=True, slots=True)
class Received:
    """One frame; payload: without padding and priority."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def number(self) -> int:
        """Of WINDOW_UPDATE and RST_STREAM."""
        return int.from_bytes(self.payload[:4], "big")


def parse(received: bytes) -> Iterator[Received]:
    """The whole frames. Fails where bytes are left over."""
    at = 0
    while at < len(received):
        size = int.from_bytes(received[at : at + 3], "big")
        assert at + 9 + size <= len(received), "the server's last frame is cut"
        kind, flags = received[at + 3], received[at + 4]
        stream_id = int.from_bytes(received[at + 5 : at + 9], "big")
        assert stream_id <= MOST_WINDOW, "the reserved bit is set"
        yield Received(kind, flags, stream_id, received[at + 9 : at + 9 + size])
        at += 9 + size


def ended(received: bytes, stream_id: int = 1) -> bool:
    """Whether the stream has ended, by what came so far: a last frame may be cut."""
    at = 0
    while at + 9 <= len(received):
        size, kind, flags = int.from_bytes(received[at : at + 3], "big"), received[at + 3], received[at + 4]
        ends = kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM)
        named = int.from_bytes(received[at + 5 : at + 9], "big")
        at += 9 + size
        if ends and named == stream_id and at <= len(received):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came on one stream. blocks: its header lists, in their order; reset: the code, None without."""

    blocks: list[dict[bytes, bytes]]
    body: bytes
    ended: bool
    reset: int | None

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.body):
            size = int.from_bytes(self.body[at + 1 : at + 5], "big")
            assert self.body[at] == 0
            assert at + 5 + size <= len(self.body), "the last message is cut"
            found.append(self.body[at + 5 : at + 5 + size])
            at += 5 + size
        return found

    @property
    def status(self) -> int:
        """gRPC's, of a call that has ended."""
        return int(self.blocks[-1][b"grpc-status"])


def answers(frames: Iterable[Received]) -> dict[int, Answer]:
    """By stream."""
    decoder = Decoder()
    found: dict[int, Answer] = {}
    for one in frames:
        if not one.stream_id or one.kind == WINDOW_UPDATE:
            continue
        before = found.get(one.stream_id, Answer([], b"", False, None))
        blocks, body, reset = before.blocks, before.body, before.reset
        if one.kind == HEADERS:
            assert one.flags & END_HEADERS
            fields = decoder.decode(one.payload, raw=True)
            blocks = [*blocks, {bytes(name): bytes(value) for name, value in fields}]
        elif one.kind == DATA:
            body += one.payload
        elif one.kind == RST_STREAM:
            reset = one.number
        found[one.stream_id] = Answer(blocks, body, before.ended or one.ends, reset)
    return found

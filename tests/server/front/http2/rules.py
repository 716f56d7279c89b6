"""A rule of HTTP/2 as a row: what a client sends after its handshake, and what becomes of its connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.server.front.http2 import wire


@dataclass(frozen=True, slots=True)
class Rule:
    """section: of RFC 9113, or of RFC 7541 after "HPACK". sent: parts, each received once the last was dealt with.

    outcome: "GOAWAY code", "RST_STREAM code" of stream 1, "answered", or "passed over". begun: what stands before.
    """

    section: str
    name: str
    outcome: str
    sent: tuple[bytes, ...] = field(repr=False)
    begun: bytes = field(default=wire.HANDSHAKE, repr=False)

    def __str__(self) -> str:
        return f"{self.section} {self.name}"


def rule(section: str, name: str, outcome: str, *sent: bytes, begun: bytes = wire.HANDSHAKE) -> Rule:
    return Rule(section, name, outcome, sent, begun)


PROTOCOL, CLOSED = "GOAWAY PROTOCOL_ERROR", "GOAWAY STREAM_CLOSED"
SIZE, FLOW = "GOAWAY FRAME_SIZE_ERROR", "GOAWAY FLOW_CONTROL_ERROR"
COMPRESSION, CALM = "GOAWAY COMPRESSION_ERROR", "GOAWAY ENHANCE_YOUR_CALM"
RST_PROTOCOL, RST_CLOSED = "RST_STREAM PROTOCOL_ERROR", "RST_STREAM STREAM_CLOSED"
ANSWERED, PASSED = "answered", "passed over"

# A call, as one header block that ends the stream; the same without an end; a GET; the same without an end.
CALL = wire.call(1, b"hello")
OPENED = wire.headers(1, wire.request(), wire.END_HEADERS)
GET = wire.headers(1, wire.plain_request())
OPEN_GET = wire.headers(1, wire.plain_request(), wire.END_HEADERS)
LAST = wire.data(1, wire.message(b"hello"), ends=True)

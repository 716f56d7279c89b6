"""Frames of HTTP/2 (RFC 9113, sections 4 and 6): their numbers, and how those that we send are written."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
# The least that a greatest frame may be, and what it is before SETTINGS say otherwise; and the most.
LEAST_FRAME_BYTES, MOST_FRAME_BYTES = 1 << 14, (1 << 24) - 1
FIRST_WINDOW_BYTES = (1 << 16) - 1
FIRST_TABLE_BYTES = 4096
MOST_WINDOW_BYTES = (1 << 31) - 1
MOST_STREAM_ID = (1 << 31) - 1
# Of payloads: PING's, one setting's, the least of GOAWAY's, PRIORITY's.
PING_BYTES, SETTING_BYTES, GOAWAY_BYTES, PRIORITY_BYTES = 8, 6, 8, 5

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags. ACK is of SETTINGS and PING, END_STREAM of DATA and HEADERS.
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The connection cannot go on (section 5.4.1). reason: for the log and for GOAWAY, without the peer's own words."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The stream is reset, the connection goes on (section 5.4.2)."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason


_HEAD = Struct(">HBBBI")  # a length of 24 bits in two parts, type, flags, stream
_SETTING = Struct(">HI")
_WINDOW_UPDATE = Struct(">HBBBII")
_NUMBERS = Struct(">II")


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream_id) + payload


def settings(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """stream_id: 0 for the connection's window."""
    return _WINDOW_UPDATE.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_stream_id: int, code: int, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _NUMBERS.pack(last_stream_id, code) + reason.encode("ascii", "replace"))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values in their order; the payload's length is a multiple of six."""
    return list(_SETTING.iter_unpack(payload))

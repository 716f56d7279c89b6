"""Header blocks (RFC 7541): those that come are decoded, or known by their bytes; those that leave are constants.

Our SETTINGS allow no dynamic table. Once they are acknowledged, and the sender has emptied its table, a block is a pure
function of its bytes: then the heads of requests are remembered, for all connections together. What we send refers to
the static table alone.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import Decoder

from lossd_server.call.contract import Status
from lossd_server.call.load_report import KEY, STRANGER
from lossd_server.front.http2.frames import ConnectionFault, ErrorCode
from lossd_server.front.http2.headers.request_head import (
    MalformedHead,
    RequestHead,
    check_field,
    refused_head,
    request_head,
)
from lossd_server.front.http2.limits import Http2Limits

# The library logs every field at DEBUG: a header's value never reaches our log.
logging.getLogger("hpack").setLevel(logging.INFO)

# Blocks that are remembered, and the longest of them. Clients send two or three kinds; a timeout makes more.
MOST_HEADS, LONGEST_BLOCK = 2048, 1024

# What a field counts beside its name and value (RFC 9113, 6.5.2).
FIELD_BYTES = 32
# A list up to so many times the bound is decoded whole, so that its call alone is refused, and told why.
MOST_LISTS = 4

Heads = dict[bytes, RequestHead]


class HeaderDecoder:
    """Of one connection. heads: what is remembered, shared with the others."""

    def __init__(self, limits: Http2Limits, heads: Heads) -> None:
        self._limits = limits
        self._heads = heads
        self._decoder = Decoder(MOST_LISTS * limits.header_list_bytes)
        self._acknowledged = False
        self._pure = False

    def acknowledged(self) -> None:
        """The peer knows that we allow no dynamic table: its next block must say that it has none.

        One that has put nothing in it need not say so (RFC 9113, 4.3.1): some clients never use the table at all.
        """
        self._acknowledged = True
        self._decoder.max_allowed_table_size = 0
        if not self._decoder.header_table.dynamic_entries:
            self._decoder.header_table_size = 0

    def head(self, block: bytes) -> RequestHead:
        """The head of a request; one that is too large has an error. Raises MalformedHead, ConnectionFault."""
        if self._pure:
            known = self._heads.get(block)
            if known is not None:
                return known
        fields = self._decode(block)
        over = self._over(fields)
        head = refused_head(fields, over) if over else request_head(fields)
        if self._pure and len(block) <= LONGEST_BLOCK:
            if len(self._heads) >= MOST_HEADS:
                self._heads.pop(next(iter(self._heads)))
            self._heads[block] = head
        return head

    def trailers(self, block: bytes) -> None:
        """Fields after a request's messages: they say nothing, and must be right. Raises as `head`."""
        fields = self._decode(block)
        if self._over(fields):
            raise MalformedHead("the trailers are too large")
        for name, value in fields:
            check_field(name, value)

    def _decode(self, block: bytes) -> Sequence[tuple[bytes, bytes]]:
        try:
            fields = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise self._too_many() from None
        except (HPACKError, IndexError, ValueError):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be decoded") from None
        self._pure = self._acknowledged and self._decoder.header_table_size == 0
        return [(bytes(name), bytes(value)) for name, value in fields]

    def _over(self, fields: Sequence[tuple[bytes, bytes]]) -> str:
        """By which bound the list is too large, as a sentence; "" where it is not."""
        limits = self._limits
        if len(fields) > limits.header_fields:
            return f"the call has {len(fields)} headers, this server takes {limits.header_fields}"
        size = sum(len(name) + len(value) + FIELD_BYTES for name, value in fields)
        if size > limits.header_list_bytes:
            return f"the call's headers have {size} bytes, this server takes {limits.header_list_bytes}"
        return ""

    def _too_many(self) -> Exception:
        if self._pure:
            return MalformedHead("the headers are too large")
        return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large")


def _integer(value: int, bits: int, pattern: int) -> bytes:
    """An integer with a prefix of `bits` (section 5.1)."""
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


def literal(name: bytes, value: bytes) -> bytes:
    """A field that no table holds, and none is to hold (section 6.2.2)."""
    return b"\0" + _integer(len(name), 7, 0) + name + _integer(len(value), 7, 0) + value


_CONTENT_TYPE = b"\x0f\x10" + _integer(len(b"application/grpc"), 7, 0) + b"application/grpc"
RESPONSE_HEAD = b"\x88" + _CONTENT_TYPE  # :status 200, of the static table
NO_TABLE = b"\x20"  # a size update to 0, before a block
# Said to a call that is refused for what its head says, since that may be its encoding.
ACCEPT_ENCODING = literal(b"grpc-accept-encoding", b"identity")
OK_TRAILERS = literal(b"grpc-status", b"0")


class TrailerBlocks:
    """What calls end with: `ok` for those that end well, `of` for any other."""

    def __init__(self) -> None:
        self.tell(b"")

    def tell(self, load_report: bytes) -> None:
        self._load = literal(KEY.encode(), _base64(load_report)) if load_report else b""
        self.ok = OK_TRAILERS + self._load

    def of(self, status: Status) -> bytes:
        return trailer_block(status) + (b"" if status.code == STRANGER else self._load)


def trailer_block(status: Status) -> bytes:
    """The block after the last message."""
    if not status.code and not status.message and not status.trailers:
        return OK_TRAILERS
    parts = [literal(b"grpc-status", str(status.code).encode())]
    if status.message:
        parts.append(literal(b"grpc-message", _percent(status.message)))
    for key, value in status.trailers:
        written = _base64(value) if isinstance(value, bytes) else value.encode("ascii", "replace")
        parts.append(literal(key.encode("ascii"), written))
    return b"".join(parts)


def http_head(http_status: int, length: int) -> bytes:
    """The head of an answer in plain text, to what is no call of gRPC."""
    return (
        b"\x08" + _integer(3, 7, 0) + str(http_status).encode()
        + literal(b"content-type", b"text/plain; charset=utf-8")
        + literal(b"content-length", str(length).encode())
    )  # fmt: skip


def _base64(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


def _percent(message: str) -> bytes:
    """gRPC's own percent-encoding: printable ASCII but for the percent sign stays."""
    return b"".join(
        bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in message.encode("utf-8")
    )

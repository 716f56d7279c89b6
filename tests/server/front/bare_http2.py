"""One call over a bare HTTP/2 connection: what no gRPC client sends, and the status that it is answered with."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
FIELDS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/lossd.v1.LossService/CrossEntropy",
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
}
CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class BareStatus:
    """What the trailers say. detailed: whether they have google.rpc details."""

    code: grpc.StatusCode
    message: str
    detailed: bool


async def bare_call(address: str, body: bytes, **fields: str) -> BareStatus:
    """The status of a call with the DATA `body`. fields: headers beside FIELDS, with _ for -."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    block = b"".join(
        b"\0" + _text(name) + _text(value)
        for name, value in (FIELDS | {name.replace("_", "-"): value for name, value in fields.items()}).items()
    )
    writer.write(PREFACE + _frame(SETTINGS, 0, 0) + _frame(HEADERS, END_HEADERS, 1, block))
    writer.write(_frame(DATA, END_STREAM, 1, body))
    try:
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == HEADERS and head[4] & END_STREAM:
                return _status(payload)
    finally:
        writer.close()
        await writer.wait_closed()


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message as gRPC frames it; flag: 1 for compressed."""
    return struct.pack(">BI", flag, len(message)) + message


def _status(trailers: bytes) -> BareStatus:
    """Core writes the first use of a header on a connection as it is, with neither a table nor Huffman's code."""
    code = re.search(rb"grpc-status[\x01\x02](\d+)", trailers)
    message = re.search(rb"grpc-message(.)(.*)", trailers, re.DOTALL)
    assert code is not None
    assert message is not None
    said = message[2][: message[1][0]].decode()
    return BareStatus(CODES[int(code[1])], said, b"grpc-status-details-bin" in trailers)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(value: str) -> bytes:
    """A short HPACK string."""
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


def known(statuses: Sequence[tuple[str, str]], status: BareStatus) -> bool:
    """Whether a status is one of these (code, part of the message)."""
    return any(status.code.name == code and part in status.message for code, part in statuses)

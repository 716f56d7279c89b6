"""Words of the HTTP port and a server process: a head each way, JSON with its length before it, and a message."""

from __future__ import annotations

import json
from asyncio import IncompleteReadError, StreamReader
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from lossd.rpc.json_text import read_json
from lossd_server.call.contract import Metadata, Status

MOST_HEAD = 1 << 20
_LENGTH_BYTES = 4


class CallHead(NamedTuple):
    """timeout_s: until the caller stops waiting. size: of the message that follows. The rest is as in `ServerCall`."""

    method: str
    metadata: Metadata
    peer: str
    subject: str
    timeout_s: float
    size: int


class AnswerHead(NamedTuple):
    """How the call ends. size: of the message that follows; 0 where there is none."""

    status: Status
    size: int


def write_call(head: CallHead) -> bytes:
    return _written([head.method, _text(head.metadata), head.peer, head.subject, head.timeout_s, head.size])


def write_answer(head: AnswerHead) -> bytes:
    status = head.status
    return _written([status.code, status.message, _text(status.trailers), head.size])


async def receive_call(reader: StreamReader) -> CallHead:
    """Raises OSError where the other side has gone, or says something else."""
    method, metadata, peer, subject, timeout_s, size = await _read(reader, 6)
    return CallHead(method, _pairs(metadata), peer, subject, timeout_s, size)


async def receive_answer(reader: StreamReader) -> AnswerHead:
    """Raises as `receive_call`."""
    code, message, trailers, size = await _read(reader, 4)
    return AnswerHead(Status(code, message, _pairs(trailers)), size)


def _written(fields: list[Any]) -> bytes:
    raw = json.dumps(fields).encode()
    return len(raw).to_bytes(_LENGTH_BYTES) + raw


async def _read(reader: StreamReader, count: int) -> list[Any]:
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        if length > MOST_HEAD:
            raise OSError(f"a head of {length} bytes")
        fields = read_json(await reader.readexactly(length))
    except (IncompleteReadError, ValueError) as error:
        raise OSError("the other side has ended") from error
    if not isinstance(fields, list) or len(fields) != count:
        raise OSError("another version's head")
    return fields


def _text(metadata: Metadata) -> list[list[str | None]]:
    """Key, value, and a value of bytes as base64."""
    return [
        [key, value, None] if isinstance(value, str) else [key, None, b64encode(value).decode()]
        for key, value in metadata
    ]


def _pairs(written: list[list[str | None]]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key or "", b64decode(raw or "") if value is None else value) for key, value, raw in written)

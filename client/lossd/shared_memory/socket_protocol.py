"""Socket protocol of shared memory, for both ends: one record of a SOCK_SEQPACKET connection each.

The client says HELLO first, the server answers with its greeting. Then the client registers memory, one memfd a record
as its SCM_RIGHTS, and is answered with a token or a refusal; it may end a region, which has no answer. All regions end
with the connection.
"""

from __future__ import annotations

import struct

HELLO = b"lossd memory 1"
# No record of a client's is longer; no record of a server's is longer than ANSWER_BYTES.
REQUEST_BYTES = 32
ANSWER_BYTES = 1024
TOKEN_BYTES = 16
# The reason of an RPC's NOT_FOUND: a token that the server does not know, or knows no longer.
UNKNOWN_REGION = "UNKNOWN_REGION"
# The reason of a refusal that may pass: the server, or this connection, has no room for more.
FULL = "SHARED_MEMORY_FULL"
# When to come back then, as RetryInfo says it of other refusals for load. The record has no place for it, and no server
# knows when others let go of theirs.
FULL_RETRY_AFTER_S = 0.1

_GREETING = HELLO + b" "
_REGISTER = struct.Struct("<cQ")
_END = struct.Struct(f"<c{TOKEN_BYTES}s")


def greeting(instance_id: str) -> bytes:
    """The server's first record. instance_id: that of GetServerInfo."""
    return _GREETING + instance_id.encode()


def read_greeting(record: bytes) -> str | None:
    """The instance_id, or None where the other end is no such server."""
    if not record.startswith(_GREETING):
        return None
    return record.removeprefix(_GREETING).decode("utf-8", "replace")


def register(size: int) -> bytes:
    """Announces a memfd of `size` bytes, which goes along."""
    return _REGISTER.pack(b"R", size)


def read_register(record: bytes) -> int | None:
    """The announced size, or None where the record is none of `register`."""
    return _number(record) if len(record) == _REGISTER.size and record[:1] == b"R" else None


def end_region(token: bytes) -> bytes:
    """Ends a region: the server forgets its token."""
    return _END.pack(b"E", token)


def read_end(record: bytes) -> bytes | None:
    """The token, or None where the record is none of `end_region`."""
    return record[1:] if len(record) == _END.size and record[:1] == b"E" else None


def granted(token: bytes) -> bytes:
    """The answer to `register`: by this the region is known in RPCs."""
    return b"T" + token


def refused(reason: str, sentence: str) -> bytes:
    """The other answer. reason: UPPER_SNAKE, for programs."""
    return f"F{reason} {sentence}".encode()[:ANSWER_BYTES]


def read_answer(record: bytes) -> bytes | tuple[str, str] | None:
    """The token; or reason and sentence of a refusal; or None where the record is no answer."""
    if record[:1] == b"T" and len(record) == 1 + TOKEN_BYTES:
        return record[1:]
    if record[:1] != b"F":
        return None
    reason, _, sentence = record[1:].decode("utf-8", "replace").partition(" ")
    return reason, sentence


def _number(record: bytes) -> int:
    size: int = _REGISTER.unpack(record)[1]
    return size

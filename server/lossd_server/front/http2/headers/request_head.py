"""Request head: from the fields of a header list to a call's method, metadata and time (RFC 9113, section 8.3).

Pure: the same fields are the same head, so heads are remembered by the bytes of their blocks.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from lossd_server.call.contract import Metadata
from lossd_server.call.request_id import REQUEST_ID
from lossd_server.errors import InvalidRequest, NotServed, ServerError, TooLarge

Fields = Iterable[tuple[bytes, bytes]]

# Of a connection, not of a request: forbidden (section 8.2.2).
_OF_CONNECTIONS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
# What gRPC itself says with, and no handler reads.
_OF_GRPC = frozenset(
    {b"te", b"content-type", b"content-length", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"}
)
_REQUEST_ID = REQUEST_ID.encode()
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_TIMEOUT = re.compile(rb"[0-9]{1,8}[HMSmun]")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class MalformedHead(Exception):
    """The stream is reset for it (section 8.1.1)."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """method: the path. timeout_s: infinite where none is named. length: of all DATA, where it is announced.

    http_status: what is answered where it is no call of gRPC, else 0; bodiless: without content, to HEAD. error: what
    the call fails with, whatever comes.
    """

    method: str
    metadata: Metadata = ()
    timeout_s: float = inf
    length: int | None = None
    http_status: int = 0
    bodiless: bool = False
    error: ServerError | None = None


def request_head(fields: Fields) -> RequestHead:
    """Raises MalformedHead."""
    pseudo: dict[bytes, bytes] = {}
    plain: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if plain or name in pseudo or name not in _PSEUDO:
                raise MalformedHead("a pseudo-header is unknown, repeated or late")
            _check_value(value)
            pseudo[name] = value
        else:
            check_field(name, value)
            plain.append((name, value))
    if not pseudo.get(b":method") or not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise MalformedHead("a pseudo-header is missing")
    return _head(pseudo, plain)


def refused_head(fields: Fields, why: str) -> RequestHead:
    """That of a call whose header list is too large."""
    path = dict(fields).get(b":path", b"").decode("utf-8", "replace")
    return RequestHead(path, error=TooLarge(f"{why}: send less metadata", reason="METADATA_TOO_LARGE"))


def check_field(name: bytes, value: bytes) -> None:
    """A plain field of a request or of trailers. Raises MalformedHead."""
    if not _TOKEN.fullmatch(name) or name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise MalformedHead("a header is not allowed in HTTP/2")
    _check_value(value)


def _check_value(value: bytes) -> None:
    if _BAD_VALUE.search(value):
        raise MalformedHead("a header's value has characters that are not allowed")


def _head(pseudo: dict[bytes, bytes], plain: list[tuple[bytes, bytes]]) -> RequestHead:
    method = pseudo[b":path"].decode("utf-8", "replace")
    once = dict(plain)
    length = _length(plain)
    if pseudo[b":method"] != b"POST":
        return RequestHead(method, length=length, http_status=405, bodiless=pseudo[b":method"] == b"HEAD")
    content_type = once.get(b"content-type", b"")
    if not re.fullmatch(rb"application/grpc([+;].*)?", content_type):
        return RequestHead(method, length=length, http_status=415)
    try:
        return RequestHead(method, tuple(_metadata(plain)), _timeout_s(once), length, error=_encoding(once))
    except ServerError as error:  # of its metadata there is but what names it in logs
        named = tuple((REQUEST_ID, value.decode("ascii", "replace")) for name, value in plain if name == _REQUEST_ID)
        return RequestHead(method, named, length=length, error=error)


def _length(plain: list[tuple[bytes, bytes]]) -> int | None:
    lengths = {value for name, value in plain if name == b"content-length"}
    if not lengths:
        return None
    value = lengths.pop()
    if lengths or not value.isdigit() or len(value) > 18:
        raise MalformedHead("content-length is not a number")
    return int(value)


def _timeout_s(once: dict[bytes, bytes]) -> float:
    value = once.get(b"grpc-timeout")
    if value is None:
        return inf
    if not _TIMEOUT.fullmatch(value):
        raise _invalid("grpc-timeout", "at most eight digits and a unit")
    return int(value[:-1]) * _UNIT_S[value[-1:]]


def _encoding(once: dict[bytes, bytes]) -> ServerError | None:
    if once.get(b"grpc-encoding", b"identity") == b"identity":
        return None
    return NotServed(
        "this server takes no compressed messages: send them with grpc-encoding: identity",
        reason="COMPRESSION_NOT_TAKEN",
    )


def _metadata(plain: list[tuple[bytes, bytes]]) -> Iterable[tuple[str, str | bytes]]:
    for name, value in plain:
        if name in _OF_GRPC:
            continue
        key = name.decode("ascii")
        if not key.endswith("-bin"):
            yield key, value.decode("ascii", "replace")
            continue
        for one in value.split(b","):
            yield key, _binary(key, one.strip())


def _binary(key: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise _invalid(key, "base64, as of every key that ends in -bin") from None


def _invalid(key: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"metadata {key} is not {expected}", reason="INVALID_METADATA", metadata={"key": key})

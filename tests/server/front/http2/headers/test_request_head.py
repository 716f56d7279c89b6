"""What a call's headers say: time, metadata, encoding, and what they are refused for."""

from __future__ import annotations

import base64
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd_server.errors import InvalidRequest, NotServed
from lossd_server.front.http2.headers.request_head import RequestHead, request_head
from tests.server.front.http2 import wire


def head(*extra: wire.Field, **pseudo: bytes) -> RequestHead:
    return request_head(wire.request_fields(extra=extra, **pseudo))


@pytest.mark.parametrize(
    "written, expected",
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"1000u", 1e-3),
        (b"1000000n", 1e-3),
        (b"99999999H", 99999999 * 3600.0),
        (b"00000001S", 1.0),
        (b"0S", 0.0),
        (b"0n", 0.0),
    ],
)
def test_timeout(written: bytes, expected: float) -> None:
    """Up to eight digits, and one of six units."""
    assert head((b"grpc-timeout", written)).timeout_s == pytest.approx(expected)


def test_no_timeout() -> None:
    """Without one, a call may take any time."""
    assert head().timeout_s == inf


@pytest.mark.parametrize(
    "written", [b"", b"1", b"S", b"1s", b"1h", b"1.5S", b"-1S", b"+1S", b"100000000S", b"1 S", b"1SS"]
)
def test_malformed_timeout(written: bytes) -> None:
    """Anything else refuses the call, and names the header."""
    error = head((b"grpc-timeout", written)).error

    assert isinstance(error, InvalidRequest)
    assert "grpc-timeout" in str(error)


def test_metadata() -> None:
    """Metadata keep their order and repeat; what gRPC says with its own headers is not among them."""
    found = head(
        (b"a", b"1"), (b"b", b""), (b"a", b"2, 3"), (b"grpc-timeout", b"1S"), (b"grpc-accept-encoding", b"gzip")
    )

    assert found.metadata == (("a", "1"), ("b", ""), ("a", "2, 3"))


@given(values=st.lists(st.binary(max_size=20), min_size=1, max_size=4), padded=st.booleans(), joined=st.booleans())
def test_binary_metadata(values: list[bytes], padded: bool, joined: bool) -> None:
    """Values of keys in -bin are base64, padded or not, one a header or joined by commas."""
    written = [base64.b64encode(value) if padded else base64.b64encode(value).rstrip(b"=") for value in values]
    fields = [(b"key-bin", b",".join(written))] if joined else [(b"key-bin", one) for one in written]

    assert head(*fields).metadata == tuple(("key-bin", value) for value in values)


@pytest.mark.parametrize("written", [b"a", b"abcde", b"ab*d", b"ab\xffd", b"ab=cd", b"====", b"YQ==,x"])
def test_malformed_binary_metadata(written: bytes) -> None:
    """Anything else refuses the call, and names the key."""
    error = head((b"key-bin", written)).error

    assert isinstance(error, InvalidRequest)
    assert "key-bin" in str(error)


@pytest.mark.parametrize("written", [b"gzip", b"deflate", b"snappy", b""])
def test_compressed(written: bytes) -> None:
    """Compression is not served, whichever it is; identity is none."""
    assert isinstance(head((b"grpc-encoding", written)).error, NotServed)
    assert head((b"grpc-encoding", b"identity")).error is None


@pytest.mark.parametrize(
    "content_type, status",
    [
        (b"application/grpc", 0),
        (b"application/grpc+proto", 0),
        (b"application/grpc;charset=utf-8", 0),
        (b"application/grpc-web", 415),
        (b"application/grpcx", 415),
        (b"application/json", 415),
        (b"", 415),
    ],
)
def test_content_type(content_type: bytes, status: int) -> None:
    """gRPC's content-type, with or without a suffix; anything else is told in HTTP's terms."""
    fields = [*wire.request_fields()[:4], (b"content-type", content_type)]

    assert request_head(fields).http_status == status


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"post"])
def test_method(method: bytes) -> None:
    """Calls are POSTs."""
    assert head(method=method).http_status == 405


def test_te() -> None:
    """te: trailers is what gRPC asks for; a client without it is served too."""
    fields = [field for field in wire.request_fields() if field[0] != b"te"]

    assert request_head(fields) == request_head(wire.request_fields())

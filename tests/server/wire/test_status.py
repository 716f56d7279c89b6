"""Errors as they leave the server."""

from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from lossd_server import errors
from lossd_server.wire import status

KINDS = [
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.GoingAway, grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineOver, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.NotServed, grpc.StatusCode.UNIMPLEMENTED),
    (errors.ServerError, grpc.StatusCode.INTERNAL),
]


@pytest.mark.parametrize("kind, code", KINDS)
def test_codes(kind: type[errors.ServerError], code: grpc.StatusCode) -> None:
    """Every class of error has its code, its subclasses too."""
    special = type("Special", (kind,), {})

    assert status.status_code(kind("no", reason="NO")) is code
    assert status.status_code(special("no", reason="NO")) is code
    assert status.status(kind("no", reason="NO")).code == code.value[0]


def test_every_class_has_a_code() -> None:
    """The table holds every class of errors.py, and UNKNOWN is nobody's."""
    classes = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}

    assert classes == set(status.CODES)
    assert grpc.StatusCode.UNKNOWN not in status.CODES.values()


def test_details() -> None:
    """ErrorInfo carries the sentence's variables, BadRequest its field, RetryInfo the wait."""
    error = errors.Overloaded("full", reason="FULL", field="input", metadata={"size": 7}, retry_after_s=0.25)
    answer = status.status(error)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()

    assert [detail.Unpack(kind) for detail, kind in zip(answer.details, (info, bad, retry), strict=True)] == [True] * 3
    assert (info.domain, info.reason, dict(info.metadata)) == ("lossd", "FULL", {"size": "7"})
    assert [(one.field, one.description) for one in bad.field_violations] == [("input", "full")]
    assert retry.retry_delay.ToMilliseconds() == 250
    assert dict(status.trailers(error))["grpc-retry-pushback-ms"] == "250"


def test_nothing_to_wait_for() -> None:
    """Without a time to come back there is neither RetryInfo nor a pushback."""
    error = errors.TooLarge("large", reason="LARGE")

    assert [detail.type_url for detail in status.status(error).details] == ["type.googleapis.com/google.rpc.ErrorInfo"]
    assert [key for key, _ in status.trailers(error)] == ["grpc-status-details-bin"]


@pytest.mark.parametrize("letter", ["a", "ü", "漢", "\udc80"], ids=["1 byte", "2 bytes", "3 bytes", "surrogate"])
def test_size(letter: str) -> None:
    """Details stay under 4 KiB and the message under 800 bytes, whatever a client put into them."""
    long = letter * 100_000
    error = errors.InvalidRequest(
        long, reason="LONG", field=long, metadata={f"{long[:70]}{index}": long for index in range(100)}
    )

    assert status.status(error, "i" * 64).ByteSize() < 4096
    assert len(status.status_message(error).encode()) <= 800

"""Statuses: ServerErrors as gRPC statuses with google.rpc details. The one table, and what goes on the wire.

Nothing but a ServerError's own words reaches it.
"""

from __future__ import annotations

import logging
from typing import Protocol

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from lossd_server.call.contract import Status
from lossd_server.call.record import NamedCall
from lossd_server.errors import (
    DeadlineOver,
    GoingAway,
    InvalidRequest,
    NotFound,
    NotServed,
    Overloaded,
    ServerError,
    TooLarge,
    Unauthenticated,
    shortage,
)

DOMAIN = "lossd"
CODES: dict[type[ServerError], StatusCode] = {
    InvalidRequest: StatusCode.INVALID_ARGUMENT,
    Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    TooLarge: StatusCode.RESOURCE_EXHAUSTED,
    GoingAway: StatusCode.UNAVAILABLE,
    DeadlineOver: StatusCode.DEADLINE_EXCEEDED,
    NotFound: StatusCode.NOT_FOUND,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    NotServed: StatusCode.UNIMPLEMENTED,
    ServerError: StatusCode.INTERNAL,
}
MAX_DETAILS_BYTES = 4096  # trailers over 8 KiB in all may turn any status into RESOURCE_EXHAUSTED at the client
_MAX_MESSAGE_BYTES = 800  # percent-encoding may triple it
_MAX_VARIABLES = 16

log = logging.getLogger(__name__)


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...


def told(rpc: str, error: Exception, call: NamedCall) -> ServerError:
    """What the caller is told of `error`: its own words, or for a bug of ours the request id, which the log has too."""
    if isinstance(error, ServerError):
        return error
    short = shortage(error)
    if short is not None:
        return short
    request_id = call.request_id
    log.error("internal error", exc_info=error, extra={"request_id": request_id, "rpc": rpc})
    return ServerError(
        f"the server failed; its log tells more under request id {request_id}",
        reason="INTERNAL",
        metadata={"request_id": request_id},
    )


def status_code(error: ServerError) -> StatusCode:
    """The code of the nearest class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def status(error: ServerError, request_id: str = "") -> status_pb2.Status:
    """The google.rpc.Status of `error`: under 4 KiB, long values shortened."""
    for limit in (512, 128, 32):
        answer = _status(error, limit, request_id)
        if answer.ByteSize() < MAX_DETAILS_BYTES:
            break
    return answer


def status_of(error: ServerError, call: NamedCall) -> Status:
    """How a call ends that is refused with `error`."""
    code, shed = status_code(error).value[0], isinstance(error, Overloaded)
    return Status(code, status_message(error), trailers(error, call.request_id), error.reason, shed)


def trailers(error: ServerError, request_id: str = "") -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carry the details, and tell a client's own retries how long to wait."""
    details = ("grpc-status-details-bin", status(error, request_id).SerializeToString())
    if error.retry_after_s is None:
        return (details,)
    return (details, ("grpc-retry-pushback-ms", str(max(1, round(error.retry_after_s * 1000)))))


def status_message(error: ServerError) -> str:
    return shorten(error.message, _MAX_MESSAGE_BYTES)


def shorten(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8, the end replaced by … where it is longer."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"


def _status(error: ServerError, limit: int, request_id: str) -> status_pb2.Status:
    """Values of at most `limit` bytes."""
    variables = {
        shorten(key, 64): shorten(value, limit) for key, value in list(error.metadata.items())[:_MAX_VARIABLES]
    }
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=variables)
    details = [_packed(info, "ErrorInfo")]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=shorten(error.field, limit), description=status_message(error), reason=error.reason
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation]), "BadRequest"))
    if error.retry_after_s is not None:
        wait = error_details_pb2.RetryInfo()
        wait.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(_packed(wait, "RetryInfo"))
    if request_id:
        details.append(_packed(error_details_pb2.RequestInfo(request_id=request_id), "RequestInfo"))
    return status_pb2.Status(code=status_code(error).value[0], message=status_message(error), details=details)


def _packed(detail: _Message, name: str) -> any_pb2.Any:
    return any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())

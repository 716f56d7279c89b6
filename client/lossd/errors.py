"""Errors of a call, by what the caller can do about it.

Error
├── InvalidArgument (also a ValueError)   fix the request: INVALID_ARGUMENT
│   └── TooLarge                          send less: RESOURCE_EXHAUSTED without RetryInfo
├── Overloaded                            come back later: RESOURCE_EXHAUSTED with RetryInfo
├── Unavailable                           repeat, here or elsewhere: UNAVAILABLE
├── DeadlineExceeded                      allow more time: DEADLINE_EXCEEDED
├── Unauthenticated                       show who you are: UNAUTHENTICATED, PERMISSION_DENIED
├── NotServed                             this server has no such thing: UNIMPLEMENTED
└── InternalError                         tell us: everything else
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

DETAILS_KEY = "grpc-status-details-bin"
# The reasons of what is raised by a client that was closed, or whose embedded server has ended: never repeated.
CLIENT_CLOSED = "CLIENT_CLOSED"
EMBEDDED_ENDED = "EMBEDDED_ENDED"


class Error(Exception):
    """Base of all that a client raises about a call. Picklable.

    field: the option or tensor at fault, as on the wire ("target"), or "". reason: UPPER_SNAKE, for programs.
    metadata: every variable of the sentence. retry_after_s: what the server asked to wait, or None. request_id: finds
    the call in the server's log, or "". on_the_way: no lossd server has said this; reason is the status's name then,
    and details are gRPC's own words, else "".
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
        details: str = "",
        on_the_way: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.details = details
        self.on_the_way = on_the_way


class InvalidArgument(Error, ValueError):
    """The request is wrong and always will be: `field`, its value and the bound are named."""


class TooLarge(InvalidArgument):
    """The request or its answer is over a limit of the server's or of the client's."""


class Overloaded(Error):
    """The server is full for now: `retry_after_s`."""


class Unavailable(Error):
    """The server cannot be reached, or is going away. Repeating is safe, since losses are pure."""


class DeadlineExceeded(Error):
    """The call's time ran out."""


class Unauthenticated(Error):
    """The server wants an identity, or refuses the one it was given."""


class NotServed(Error):
    """This server does not have that loss or option."""


class InternalError(Error):
    """A fault of the server's: `request_id` finds it in its log."""


# The mirror of the server's table. A code that is not here is an InternalError. CANCELLED: a server that stops may
# cancel calls that came late, and a call that we cancelled ourselves raises nothing at all.
_CLASSES: dict[grpc.StatusCode, type[Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: InvalidArgument,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Unauthenticated,
    grpc.StatusCode.UNIMPLEMENTED: NotServed,
}


# What a status means that no lossd server has explained.
_ON_THE_WAY: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "the server cannot be reached, or the connection to it was lost",
    grpc.StatusCode.CANCELLED: "the call was cancelled before its answer",
    grpc.StatusCode.DEADLINE_EXCEEDED: "no answer within the deadline",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a limit was exceeded on the way, most likely that of a message's size",
    grpc.StatusCode.UNIMPLEMENTED: "no such method is served: is it a lossd server of this version?",
    grpc.StatusCode.UNAUTHENTICATED: "the caller's identity is missing or was not accepted",
    grpc.StatusCode.PERMISSION_DENIED: "the caller is not permitted to do this",
}


def shown_value(value: object) -> str:
    """The value as a sentence shows it: as Python writes it, in one line of at most 80 characters."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def error_class(code: grpc.StatusCode, retry_after_s: float | None) -> type[Error]:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TooLarge if retry_after_s is None else Overloaded
    return _CLASSES.get(code, InternalError)


def from_status(code: grpc.StatusCode, message: str, details: Iterable[AnyMessage] = ()) -> Error:
    """The exception for a status and its google.rpc details."""
    # 25 ms of imports that only a failure needs.
    from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo

    info, bad, retry, request = ErrorInfo(), BadRequest(), RetryInfo(), RequestInfo()
    retry_after_s: float | None = None
    for detail in details:
        detail.Unpack(info)
        detail.Unpack(bad)
        detail.Unpack(request)
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return error_class(code, retry_after_s)(
        message,
        field=bad.field_violations[0].field if bad.field_violations else "",
        reason=info.reason,
        metadata=info.metadata,
        retry_after_s=retry_after_s,
        request_id=request.request_id or info.metadata.get("request_id", ""),
    )


def from_rpc(
    code: grpc.StatusCode, message: str | None, trailers: Iterable[tuple[str, str | bytes]] | None, address: str
) -> Error:
    """The exception for a call that failed: the server's words lie in the trailing metadata.

    A status without them was made on the way, not by a lossd server: the sentence says which address it is about and
    what the code means, and what gRPC says is in `details`.
    """
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    status = Status()
    for key, value in trailers or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    if status.details:
        return from_status(code, message or code.name, status.details)
    meaning = _ON_THE_WAY.get(code, f"the call failed, with status {code.name}")
    return error_class(code, None)(f"{address}: {meaning}", reason=code.name, details=message or "", on_the_way=True)

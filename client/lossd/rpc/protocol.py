"""Protocol: paths, metadata and failures that all transports share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from lossd.errors import (
    CLIENT_CLOSED,
    EMBEDDED_ENDED,
    DeadlineExceeded,
    Error,
    NotServed,
    Unauthenticated,
    Unavailable,
)
from lossd.rpc.target import Target
from lossd.rpc.unauthenticated import with_what_to_give
from lossd.rpc.unreachable import GONE, sentence, unreachable
from lossd.v1 import service_pb2

Metadata = tuple[tuple[str, str], ...]

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["LossService"]
HEALTH = "Check"
# Every unary RPC by its name, and grpc.health.v1's Check, whose package the thin install does not have.
PATHS: dict[str, str] = {
    **{method.name: f"/{_SERVICE.full_name}/{method.name}" for method in _SERVICE.methods if method.name != "Stream"},
    HEALTH: "/grpc.health.v1.Health/Check",
}
STREAM = f"/{_SERVICE.full_name}/Stream"
# HealthCheckRequest for the whole server, service = "".
HEALTH_REQUEST = b""
# HealthCheckResponse with status = SERVING: field 1, a varint, 1.
_HEALTH_SERVING = b"\x08\x01"

# A request above this is worth a question first: what does the server take in one message? Small calls never ask.
LARGE_BYTES = 1 << 20


# The reason with which a server ends a stream whose answers are not read.
NOT_READ = "STREAM_NOT_READ"
# That of a stream that broke off, for a reason that nobody told.
STREAM_ENDED = "STREAM_ENDED"


@dataclass(slots=True)
class Lifetime:
    """Of a client, told to its connections and calls, which must not hold the client itself.

    connect_timeout_s: for the first answer of all. reached: whether a server has ever answered this client. embedded:
    whether its server is in this process, or was in the one that this process was forked from. closed: by its owner.
    ended: the embedded server is closed, or is closing. several: calls go to several servers, each to another.
    repeats: what is unavailable is sent again; otherwise it is raised, for the caller has another server.
    """

    connect_timeout_s: float = inf
    reached: bool = False
    embedded: bool = False
    closed: bool = False
    ended: bool = False
    several: bool = False
    repeats: bool = True

    @property
    def is_over(self) -> bool:
        """Whether no call can be made any more."""
        return self.closed or self.ended


@lru_cache(maxsize=256)
def metadata(request_bytes: int, max_response_bytes: int, authorization: Metadata = ()) -> Metadata:
    """The request's size, admitted before its body is read; the largest answer that this client takes; who it is."""
    return (
        ("lossd-request-bytes", str(request_bytes)),
        ("lossd-max-response-bytes", str(max_response_bytes)),
        *authorization,
    )


def is_serving(answer: bytes) -> bool:
    return answer == _HEALTH_SERVING


def stream_metadata(max_response_bytes: int, authorization: Metadata = ()) -> Metadata:
    return ("lossd-max-response-bytes", str(max_response_bytes)), *authorization


def no_progress(idle_s: float) -> DeadlineExceeded:
    sentence = f"the stream stood still for {idle_s:g} s"
    return DeadlineExceeded(sentence, reason="NO_PROGRESS", metadata={"idle_s": f"{idle_s:g}"})


def no_time_left() -> DeadlineExceeded:
    return DeadlineExceeded("no answer within the deadline", reason="DEADLINE_EXCEEDED")


def explained(error: Error, lifetime: Lifetime, is_ready: Callable[[], bool], target: Target) -> Error:
    """What an attempt's failure means to a client: by what it knows of itself, its server and its connection."""
    if lifetime.is_over:
        return ended_error(lifetime)
    if error.reason == NOT_READ:
        # The caller took its time with what came: the server let the stream go, and may be asked again.
        return Unavailable(str(error), reason=NOT_READ, request_id=error.request_id)
    if isinstance(error, DeadlineExceeded):
        if not error.on_the_way or is_ready():
            lifetime.reached = True
            return error
        error = not_connected(target.address)
    elif isinstance(error, Unavailable | NotServed) and error.on_the_way:
        error = unreachable(error, target.address, target.credentials)
    elif not error.on_the_way:
        lifetime.reached = True
        if isinstance(error, Unauthenticated):
            error = with_what_to_give(error, target.credentials)
    if lifetime.embedded and error.reason in GONE:
        return embedded_ended()
    return error


def not_connected(address: str) -> Unavailable:
    """What a deadline that passed without a connection means."""
    return Unavailable(sentence("NOT_CONNECTED", address), reason="NOT_CONNECTED", metadata={"address": address})


def cannot_repeat(error: Error) -> Unavailable:
    """Of a call that would be sent again, had its gradients not overwritten a part of what it sends."""
    sentence = f"{error}; gradients have overwritten a part of the input (out is input), so it is not sent again"
    return Unavailable(sentence, reason="OVERWRITTEN", request_id=error.request_id)


def ended_error(lifetime: Lifetime) -> Unavailable:
    """Of a client that is closed, or whose embedded server has ended."""
    return embedded_ended() if lifetime.ended and not lifetime.closed else closed_error()


def closed_error() -> Unavailable:
    return Unavailable("this client is closed", reason=CLIENT_CLOSED)


def embedded_ended() -> Unavailable:
    return Unavailable(
        "the embedded server has ended, with its client or with the process that it was in", reason=EMBEDDED_ENDED
    )

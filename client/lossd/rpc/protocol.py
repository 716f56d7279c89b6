"""Protocol: paths, metadata and failures that all transports share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossd.errors import CLIENT_CLOSED, DeadlineExceeded, Error, Unavailable
from lossd.v1 import service_pb2

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


@dataclass(slots=True)
class Lifetime:
    """Of a client, told to its connections, which must not hold the client itself."""

    closed: bool = False


def metadata(request_bytes: int, max_response_bytes: int) -> tuple[tuple[str, str], ...]:
    """The request's size, admitted before its body is read, and the largest answer that this client takes."""
    return ("lossd-request-bytes", str(request_bytes)), ("lossd-max-response-bytes", str(max_response_bytes))


def is_serving(answer: bytes) -> bool:
    return answer == _HEALTH_SERVING


def stream_metadata(max_response_bytes: int) -> tuple[tuple[str, str], ...]:
    return (("lossd-max-response-bytes", str(max_response_bytes)),)


def no_progress(idle_s: float) -> DeadlineExceeded:
    sentence = f"the stream stood still for {idle_s:g} s"
    return DeadlineExceeded(sentence, reason="NO_PROGRESS", metadata={"idle_s": f"{idle_s:g}"})


def explained(error: Error, *, closed: bool, is_ready: Callable[[], bool], address: str) -> Error:
    """What an attempt's failure means to a client: by what it knows of itself and of its connection."""
    if closed:
        return closed_error()
    if error.reason == NOT_READ:
        # The caller took its time with what came: the server let the stream go, and may be asked again.
        return Unavailable(str(error), reason=NOT_READ)
    return not_connected(address) if isinstance(error, DeadlineExceeded) and not is_ready() else error


def not_connected(address: str) -> Unavailable:
    """What a deadline that passed without a connection means."""
    return Unavailable(f"{address}: no connection within the deadline", reason="NOT_CONNECTED")


def cannot_repeat(error: Error) -> Unavailable:
    """Of a call that would be sent again, had its gradients not overwritten a part of what it sends."""
    sentence = f"{error}; gradients have overwritten a part of the input (out is input), so it is not sent again"
    return Unavailable(sentence, reason="OVERWRITTEN")


def closed_error() -> Unavailable:
    return Unavailable("this client is closed", reason=CLIENT_CLOSED)

"""What both transports say on the wire beside the messages themselves."""

from __future__ import annotations

from lossd.errors import CLIENT_CLOSED, TooLarge, Unavailable
from lossd.v1 import service_pb2

_SERVICE = service_pb2.DESCRIPTOR.services_by_name["LossService"]
HEALTH = "Check"
# Every unary RPC by its name, and grpc.health.v1's Check, whose package the thin install does not have.
PATHS: dict[str, str] = {
    **{method.name: f"/{_SERVICE.full_name}/{method.name}" for method in _SERVICE.methods if method.name != "Stream"},
    HEALTH: "/grpc.health.v1.Health/Check",
}
# HealthCheckRequest for the whole server, service = "".
HEALTH_REQUEST = b""
# HealthCheckResponse with status = SERVING: field 1, a varint, 1.
_HEALTH_SERVING = b"\x08\x01"

# A request above this is worth a question first: what does the server take in one message? Small calls never ask.
LARGE_BYTES = 1 << 20


def metadata(request_bytes: int, max_response_bytes: int) -> tuple[tuple[str, str], ...]:
    """The request's size, admitted before its body is read, and the largest answer that this client takes."""
    return ("lossd-request-bytes", str(request_bytes)), ("lossd-max-response-bytes", str(max_response_bytes))


def is_serving(answer: bytes) -> bool:
    return answer == _HEALTH_SERVING


def check_size(request_bytes: int, max_message_bytes: int) -> None:
    """TooLarge where the server would refuse the message: before it is sent. 0: the server named no limit."""
    if 0 < max_message_bytes < request_bytes:
        raise TooLarge(
            f"the request has {request_bytes} bytes, the server takes {max_message_bytes} in one message: send fewer "
            "rows at a time, or raise the server's option max_message_bytes",
            field="max_message_bytes",
            reason="MESSAGE_TOO_LARGE",
            metadata={"request_bytes": str(request_bytes), "max_message_bytes": str(max_message_bytes)},
        )


def not_connected(address: str) -> Unavailable:
    """What a deadline that passed without a connection means."""
    return Unavailable(f"{address}: no connection within the deadline", reason="NOT_CONNECTED")


def closed() -> Unavailable:
    return Unavailable("this client is closed", reason=CLIENT_CLOSED)

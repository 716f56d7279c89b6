"""Errors that callers are told, by what they can do about it.

`ServerError` is what the service turns into a status with details (`status`); nothing else reaches the wire.
InvalidRequest: fix the request. Overloaded: come back later. GoingAway: repeat elsewhere. DeadlineOver: allow more
time. TooLarge: send less. NotFound: register the memory again. Unauthenticated: show who you are. NotServed: this
server has no such thing. Anything that
is no ServerError is our own bug and becomes INTERNAL with a request id.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

RETRY_AFTER_S = 0.1  # a full budget of 512 MiB is computed and answered in about that
OUT_OF_MEMORY_RETRY_S = 1.0
# Errors of the system that pass: no memory, no descriptors in this process, none on this machine.
SHORT = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class ServerError(Exception):
    """Base of all that a caller is told.

    message: one line that names field, value and bound. reason: UPPER_SNAKE, for programs. metadata: every variable of
    the sentence. field: the request's field at fault, as on the wire ("target"), or "".
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        field: str = "",
        metadata: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.retry_after_s = retry_after_s


class InvalidRequest(ServerError):
    """INVALID_ARGUMENT."""


class Overloaded(ServerError):
    """RESOURCE_EXHAUSTED, with RetryInfo: load."""


class TooLarge(ServerError):
    """RESOURCE_EXHAUSTED, without RetryInfo: this request will never fit."""


class GoingAway(ServerError):
    """UNAVAILABLE, with RetryInfo."""


class DeadlineOver(ServerError):
    """DEADLINE_EXCEEDED."""


class NotFound(ServerError):
    """NOT_FOUND: a region of shared memory that is not there, or no longer."""


class Unauthenticated(ServerError):
    """UNAUTHENTICATED: nobody is known by what the call shows."""


class NotServed(ServerError):
    """UNIMPLEMENTED."""


def invalid(message: str, reason: str, field: str = "", /, **variables: object) -> InvalidRequest:
    """variables: those of the sentence."""
    return InvalidRequest(message, reason=reason, field=field, metadata=variables)


def malformed(name: str, size: int) -> InvalidRequest:
    """Bytes that are no message `name`."""
    return invalid(
        f"the message of {size} bytes is no {name}: they are cut off, or not protobuf's",
        "MALFORMED_MESSAGE",
        bytes=size,
        message=name,
    )


def out_of_memory() -> Overloaded:
    """A request that would have been served at another moment."""
    return Overloaded(
        "the server has not enough memory for this request now",
        reason="OUT_OF_MEMORY",
        retry_after_s=OUT_OF_MEMORY_RETRY_S,
    )


def shortage(error: Exception) -> Overloaded | None:
    """What a failure means that another moment may mend: no memory, or no descriptors; None for any other."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SHORT):
        return out_of_memory()
    return None


def passes(error: BaseException | None) -> bool:
    """Whether a failure, or what it came from, is a shortage."""
    return isinstance(error, Exception) and (shortage(error) is not None or passes(error.__cause__))


def no_message() -> InvalidRequest:
    return invalid("the call has no message, exactly one is expected", "NO_MESSAGE")

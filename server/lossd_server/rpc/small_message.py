"""Small messages of the services beside the losses: read without admission, so few bytes are taken."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lossd_server.call.contract import Body, ServerCall
from lossd_server.errors import TooLarge, malformed, no_message

MOST_BYTES = 4096

MessageT = TypeVar("MessageT", bound=Message)


async def read_small(call: ServerCall, kind: type[MessageT]) -> MessageT:
    """The call's message. Raises InvalidRequest, and TooLarge beyond MOST_BYTES."""
    body = await call.read()
    if body is None:
        raise no_message()
    return parse_small(body, kind)


def parse_small(body: Body, kind: type[MessageT]) -> MessageT:
    """The message that was read as `body`. Raises as `read_small`."""
    if len(body) > MOST_BYTES:
        raise TooLarge(
            f"the message has {len(body)} bytes, this method takes {MOST_BYTES}",
            reason="MESSAGE_TOO_LARGE",
            metadata={"size_bytes": len(body), "max_message_bytes": MOST_BYTES},
        )
    try:
        return kind.FromString(bytes(body))
    except DecodeError:
        raise malformed(kind.DESCRIPTOR.full_name, len(body)) from None

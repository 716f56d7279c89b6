"""Choice of transport: one message, a stream, or shared memory. Pure: by size, place and the server's limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from lossd.errors import InvalidArgument, TooLarge
from lossd.options import Progress, Transport
from lossd.request.build import Call
from lossd.request.option_values import unknown_value
from lossd.routing import shared_memory_limits
from lossd.routing.block_plan import BlockPlan, answer_bytes, plan_blocks, request_bytes
from lossd.rpc.server_limits import MessageLimits

# One message for a call that is cut nowhere, or references into shared memory; blocks of a stream.
Way = Literal["unary", "shared_memory"] | BlockPlan

# Up to here a call goes in one message, and the server is not even asked for its limits.
SMALL_BYTES = 1 << 20
# From here on blocks are as fast as one message, whose memory is that of all of it; a stream takes 2 ms to start.
STREAM_BYTES = 8 << 20
# From here on a copy into shared memory costs less than the way through the network stack.
SHARED_BYTES = 1 << 20
# Requests under this have answers under SMALL_BYTES: an element of one byte brings at most 16 back.
_TINY_BYTES = SMALL_BYTES // 32
# Headers of a small request, whatever its options: far less than this.
_HEADERS_BYTES = 8192


def checked(transport: object) -> Transport:
    """`transport` as one of the four, "auto" for None."""
    if transport is None:
        return "auto"
    for known in get_args(Transport):
        if isinstance(transport, str) and transport == known:
            chosen: Transport = known
            return chosen
    raise unknown_value("transport", transport, get_args(Transport))


def taken(options: Mapping[str, Any]) -> tuple[Transport, Progress | None, Mapping[str, Any]]:
    """What the client's own options say, and the rest, which is the call's."""
    if "transport" not in options and "progress" not in options:
        return "auto", None, options
    rest = dict(options)
    return checked(rest.pop("transport", None)), rest.pop("progress", None), rest


def is_small(call: Call, asked: Transport, most_bytes: int = SMALL_BYTES) -> bool:
    """Whether the call goes in one message whatever the server is. most_bytes: what is known to fit, either way."""
    nbytes = call.nbytes
    if nbytes > SMALL_BYTES - _HEADERS_BYTES or asked in ("stream", "shared_memory"):
        return False
    if most_bytes < SMALL_BYTES and max(request_bytes(call), answer_bytes(call)) > most_bytes:
        return False
    return nbytes <= _TINY_BYTES or asked == "unary" or answer_bytes(call) <= SMALL_BYTES


def choose_transport(asked: Transport, call: Call, limits: MessageLimits, no_shared: str | None) -> Way:
    """The way that was asked for, or the fastest there is; InvalidArgument that says why there is none.

    no_shared: why there is no shared memory, None where there is.
    """
    if no_shared is None:
        no_shared = shared_memory_limits.why_not(call, limits)
    if asked == "shared_memory":
        if no_shared is not None:
            raise _cannot(asked, no_shared)
        return "shared_memory"
    too_large = _too_large(call, limits)
    if asked == "unary":
        if too_large is not None:
            raise _does_not_fit(
                f"{too_large}: send fewer items at a time, leave the transport to this client", call, limits
            )
        return "unary"
    streamed = plan_blocks(call, limits)
    if asked == "stream":
        if isinstance(streamed, str):
            raise _cannot(asked, streamed)
        return streamed
    size = max(call.nbytes, answer_bytes(call))
    mapped = call.is_mapped
    if no_shared is None and size >= SHARED_BYTES and not mapped:
        return "shared_memory"
    if isinstance(streamed, BlockPlan) and (mapped or too_large is not None or size >= STREAM_BYTES):
        return streamed
    if too_large is None:
        return "unary"
    if no_shared is None:
        return "shared_memory"
    raise _does_not_fit(f"{too_large}, and it cannot be streamed: {streamed}: send less", call, limits)


def _too_large(call: Call, limits: MessageLimits) -> str | None:
    """Why the call does not fit one message each way: the first half of a sentence."""
    most, request = limits.max_message_bytes, request_bytes(call)
    if most and request > most:
        return f"the request has {request} bytes, the server takes {most} in one message"
    answer = answer_bytes(call)
    if answer > limits.answer_bytes:
        return f"the answer has {answer} bytes, {limits.answer_bound} in one message"
    return None


def _does_not_fit(why: str, call: Call, limits: MessageLimits) -> TooLarge:
    request = request_bytes(call)
    of_client = limits.client_bounds_answers and request <= (limits.max_message_bytes or request)
    option = "max_response_bytes" if of_client else "max_message_bytes"
    return TooLarge(
        f"{why}, or raise {'this client' if of_client else 'the server'}'s {option}",
        field=option,
        reason="MESSAGE_TOO_LARGE",
        metadata={
            "request_bytes": str(request),
            "answer_bytes": str(answer_bytes(call)),
            "max_message_bytes": str(limits.max_message_bytes),
            "max_response_bytes": str(limits.max_response_bytes),
        },
    )


def _cannot(asked: Transport, why: str) -> InvalidArgument:
    return InvalidArgument(
        f'transport = "{asked}" cannot be: {why}',
        field="transport",
        reason="TRANSPORT_NOT_POSSIBLE",
        metadata={"value": asked, "because": why},
    )

"""Events of an HTTP/2 connection: what the bytes that came mean to whoever handles calls."""

from __future__ import annotations

from typing import NamedTuple

from lossd_server.front.http2.headers.request_head import RequestHead


class CallBegun(NamedTuple):
    stream_id: int
    head: RequestHead


class MessagesCame(NamedTuple):
    """Something of the call's messages is here: a size, a message, or their end. fault: why there will be no more."""

    stream_id: int
    fault: str = ""


class CallReset(NamedTuple):
    """Nobody waits for the call any more: its client reset it, or we had to."""

    stream_id: int


class RoomMade(NamedTuple):
    """What was queued for the stream has left, or some of it."""

    stream_id: int


class CallSent(NamedTuple):
    """All of the call's end was handed over."""

    stream_id: int


class PingAnswered(NamedTuple):
    payload: bytes


Event = CallBegun | MessagesCame | CallReset | RoomMade | CallSent | PingAnswered

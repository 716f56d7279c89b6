"""grpc.aio, as channels made of several channels use it. Its twin of grpc is `library`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

# Opens channels.
library = grpc.aio
# What a call on a closed channel raises.
Closed = grpc.aio.UsageError
_closing: set[asyncio.Future[None]] = set()


def state_of(channel: Any) -> grpc.ChannelConnectivity:
    found: grpc.ChannelConnectivity = channel.get_state()
    return found


def when_over(call: Any, then: Callable[[], None]) -> None:
    """Calls `then` at the end of a stream's call."""
    call.add_done_callback(lambda _: then())


def close_soon(channel: Any) -> None:
    """Closes a channel without calls, in a task of the running loop."""
    task = asyncio.ensure_future(channel.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)

"""grpc, as channels made of several channels use it. Its twin of grpc.aio is `aio_library`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

# Opens channels.
library = grpc
# What a call on a closed channel raises.
Closed = ValueError
_STATES = {state.value[0]: state for state in grpc.ChannelConnectivity}


def state_of(channel: Any) -> grpc.ChannelConnectivity:
    """By core's own answer: the public way to it is a thread, which logs an error where the channel is closed."""
    if not isinstance(channel, grpc.Channel):  # one made of several
        found: grpc.ChannelConnectivity = channel.get_state()
        return found
    core: Any = channel
    try:
        return _STATES[core._channel.check_connectivity_state(False)]
    except ValueError:  # closed by another thread
        return grpc.ChannelConnectivity.SHUTDOWN


def when_over(call: Any, then: Callable[[], None]) -> None:
    """Calls `then` at the end of a stream's call."""
    if not call.add_callback(then):  # it is over already
        then()


def close_soon(channel: Any) -> None:
    """Closes a channel without calls."""
    channel.close()

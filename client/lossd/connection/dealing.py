"""Dealing: which of several channels, each to servers of one name, takes the next call. Pure."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import grpc

READY, FAILED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Dealer:
    """The channel with the fewest calls, in turn where several have as few; one that does not connect comes last.

    state_of: of the channel with that number. Thread-safe.
    """

    def __init__(self, channels: int, state_of: Callable[[int], grpc.ChannelConnectivity]) -> None:
        self._state_of = state_of
        self._lock = Lock()
        self._calls = [0] * channels
        self._next = 0

    def begin(self) -> int:
        """The channel of a call that begins."""
        failed = [self._state_of(one) is FAILED for one in range(len(self._calls))]
        with self._lock:
            count = len(self._calls)
            turn = [(self._next + i) % count for i in range(count)]
            chosen = min(turn, key=lambda one: (failed[one], self._calls[one]))
            self._calls[chosen] += 1
            self._next = chosen + 1
        return chosen

    def end(self, chosen: int) -> None:
        """That call is over."""
        with self._lock:
            self._calls[chosen] -= 1

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """READY where one channel is; else that of the first."""
        states = [self._state_of(one) for one in range(len(self._calls))]
        return READY if READY in states else states[0]

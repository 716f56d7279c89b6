"""Followed servers: which channel takes the next call while the servers' addresses change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from lossd.errors import Error


class Generation:
    """A channel to the servers of one list, the methods that were called on it, and its calls under way."""

    def __init__(self, servers: Sequence[str], channel: Any) -> None:
        self.servers = servers
        self.channel = channel
        self.calls = 0
        self._methods: dict[tuple[str, str], Callable[..., Any]] = {}

    def method(self, kind: str, path: str) -> Callable[..., Any]:
        """kind: unary_unary or stream_stream."""
        found = self._methods.get((kind, path))
        if found is None:
            found = self._methods[kind, path] = getattr(self.channel, kind)(path)
        return found


class Followed:
    """Calls begin on the channel of the newest list; an older one is closed with the end of its last call.

    servers: those of now; raises Unavailable where none is known. open_channel: to a list of them; where it raises
    Error the channel before goes on. closed: grpc's error of a closed channel. Thread-safe.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[str]],
        open_channel: Callable[[Sequence[str]], Any],
        close_channel: Callable[[Any], None],
        closed: type[Exception] = ValueError,
    ) -> None:
        self._servers = servers
        self._open_channel = open_channel
        self._close_channel = close_channel
        self._lock = Lock()
        self._generations: list[Generation] = []
        self._error = closed
        self._closed = False

    def begin(self) -> Generation:
        """Of a call that begins. Raises `closed` where all is closed, and Unavailable."""
        servers = self._servers()
        with self._lock:
            if self._closed:
                raise self._error("the channel is closed")
            newest = self._follow(servers)
            newest.calls += 1
            idle = self._without_calls()
        for one in idle:
            self._close_channel(one.channel)
        return newest

    def end(self, generation: Generation) -> None:
        """That call is over."""
        with self._lock:
            generation.calls -= 1
            idle = self._without_calls()
        for one in idle:
            self._close_channel(one.channel)

    def close(self) -> list[Any]:
        """The channels that are left, for their owner to close."""
        with self._lock:
            self._closed = True
            left, self._generations = self._generations, []
        return [one.channel for one in left]

    @property
    def newest(self) -> Any:
        """Its channel; None before the first call."""
        generations = self._generations
        return generations[-1].channel if generations else None

    def _follow(self, servers: Sequence[str]) -> Generation:
        generations = self._generations
        if not generations or generations[-1].servers != servers:
            try:
                generations.append(Generation(servers, self._open_channel(servers)))
            except Error:  # a file of the credentials is being replaced, perhaps
                if not generations:
                    raise
        return generations[-1]

    def _without_calls(self) -> list[Generation]:
        """Those that nobody will use again."""
        idle = [one for one in self._generations[:-1] if one.calls == 0]
        if idle:
            self._generations = [one for one in self._generations if one not in idle]
        return idle

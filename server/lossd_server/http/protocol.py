"""HTTP/1.1 protocol: uvicorn's, with bounds for connections that take their time."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lossd_server.call.identity import subject_of
from lossd_server.metrics.http_refusals import HttpRefusals

MOST_CONNECTIONS = 64
# For a request to arrive and its answer to be read; then once more, where it is looked in between.
LOOK_S = 10.0
# Where the name is that a client's certificate has, in a request's state.
SUBJECT = "subject"


class HttpConnection(H11Protocol):
    """One connection. Whatever it does, it ends where no request has begun, and none has ended, for a while."""

    def __init__(self, config: Config, state: ServerState, refusals: HttpRefusals) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._refusals = refusals
        self._seen: Any = self
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as it is there
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refusals.count("TOO_MANY_CONNECTIONS")
            transport.abort()
            return
        self.app_state = {SUBJECT: subject_of(transport.get_extra_info("peercert"))}
        self._timer = self.loop.call_later(LOOK_S, self.look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP, or has too long a head."""
        self._refusals.count("")
        super().send_400_response(msg)

    def look(self) -> None:
        """A request that is still the same one is not read, or another has not come."""
        if self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self._timer = self.loop.call_later(LOOK_S, self.look)

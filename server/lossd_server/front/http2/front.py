"""Front of our own: listens, and serves gRPC over HTTP/2 on each connection."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf

from lossd_server.call.contract import Routes
from lossd_server.config.address import split
from lossd_server.config.settings import Settings
from lossd_server.front.http2.connection_clock import ANNOUNCE_S
from lossd_server.front.http2.limits import Http2Limits
from lossd_server.front.http2.protocol import REFUSED_S, Http2Protocol, Shared
from lossd_server.front.http2.tls_listener import MOST_HANDSHAKES, TlsListener

# How late a deadline is noticed here; a client's own is its own to keep.
SWEEP_S = 0.25
# Connections that wait to be taken: a client of a Unix socket does not wait where there is no place, it fails.
BACKLOG = 1024
# For clients to take what was written to them last.
LAST_WRITE_S = 0.1


class Http2Front:
    """`lossd_server.call.contract.Front`. shares_port: with other processes of this server.

    tls: gives the context of each connection to its TCP ports, which agrees on ALPN. A Unix socket is plain.
    """

    def __init__(
        self,
        routes: Routes,
        settings: Settings,
        shares_port: bool = False,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._tls = tls
        limits = Http2Limits(
            answer_timeout_s=settings.max_body_s,
            connection_idle_s=settings.max_connection_idle_s,
            connection_age_s=settings.max_connection_age_s,
            age_grace_s=settings.max_deadline_s,
        )
        self._shared = Shared(routes, limits, settings.max_connections)
        self._shares_port = shares_port
        self._servers: list[asyncio.Server | TlsListener] = []
        self._paths: list[str] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, addresses: Sequence[str]) -> list[str]:
        opened = []
        for address in addresses:
            try:
                opened.append(await self._listen(address))
            except OSError as error:
                await self.stop(None)
                raise OSError(f"cannot listen on {address}: {error.strerror or error}") from error
        self._sweep()
        return opened

    async def _listen(self, address: str) -> str:
        loop = asyncio.get_running_loop()

        def protocol() -> Http2Protocol:
            return Http2Protocol(self._shared)

        if address.startswith("unix:"):
            path = address.removeprefix("unix:").removeprefix("//")
            self._servers.append(await loop.create_unix_server(protocol, path, backlog=BACKLOG))
            self._paths.append(path)
            return address
        host, port = split(address)
        if self._tls is not None:
            listener = TlsListener(protocol, self._tls, min(MOST_HANDSHAKES, self._shared.max_connections))
            port = await listener.listen(host, port, self._shares_port, BACKLOG)
            self._servers.append(listener)
        else:
            server = await loop.create_server(
                protocol, host, port, reuse_port=self._shares_port or None, backlog=BACKLOG
            )
            port = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        return f"{address.rpartition(':')[0]}:{port}"

    @property
    def connections(self) -> int:
        return len(self._shared.connections)

    async def stop(self, grace_s: float | None) -> None:
        shared = self._shared
        shared.closing = True
        for server in self._servers:
            server.close()
        for path in self._paths:
            with suppress(OSError):
                os.unlink(path)
        if grace_s is not None:
            # In two steps (RFC 9113, 6.8): calls that were on their way when the end was announced are still taken.
            for connection in list(shared.connections):
                connection.announce_end()
            await self._until(lambda: all(one.end_is_known for one in shared.connections), min(grace_s, ANNOUNCE_S))
        for connection in list(shared.connections):
            connection.go_away()
        await self._until(
            lambda: not len(shared.whole_calls) and not any(one.calls for one in shared.connections), grace_s or 0.0
        )
        if self._sweeper is not None:
            self._sweeper.cancel()
        shared.closed = True
        for server in self._servers:
            if isinstance(server, TlsListener):
                await server.end_handshakes()
        for connection in list(shared.connections):
            connection.close()
        await self._until(lambda: not shared.connections, LAST_WRITE_S)
        for connection in list(shared.connections):
            connection.abort()
        shared.close_refused(inf)
        for _ in range(2):  # the loop closes sockets in the turn after they were given up
            await asyncio.sleep(0)

    @staticmethod
    async def _until(holds: Callable[[], bool], most_s: float) -> None:
        end_s = time.monotonic() + most_s
        while not holds() and time.monotonic() < end_s:
            await asyncio.sleep(0.01)

    def _sweep(self) -> None:
        # First of all: whatever fails in this one, there is a next.
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now_s = time.monotonic()
        for connection in list(self._shared.connections):
            connection.expire(now_s)
        self._shared.close_refused(now_s - REFUSED_S)

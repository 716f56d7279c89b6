"""lossd's HTTP/2 front on real sockets, with a service of the tests'."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from lossd_server.config.settings import Settings
from lossd_server.front.http2.front import Http2Front
from lossd_server.rpc.dispatch import Dispatcher, ServiceMethod
from tests.server.front.http2 import wire
from tests.server.front.http2.driven import echo, echo_all

KINDS = ("tcp", "unix")


@asynccontextmanager
async def listening(
    folder: Path,
    methods: Mapping[str, ServiceMethod] | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Http2Front, dict[str, str]]]:
    """The front, and its addresses by their kind."""
    dispatcher = Dispatcher()
    for name, method in {"Echo": echo, "EchoAll": echo_all, **(methods or {})}.items():
        dispatcher.add("test", name, method)
    front = Http2Front(dispatcher.routes(), Settings(**settings), tls=None if tls is None else lambda: tls)
    opened = await front.start(["127.0.0.1:0", f"unix:{folder / 'socket'}"])
    try:
        yield front, dict(zip(KINDS, opened, strict=True))
    finally:
        await front.stop(None)


class RawClient:
    """A socket, and what came on it. What a server sent before it closed is read even where writing fails."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pings = 0
        self.received = bytearray()
        self.over = False

    @classmethod
    async def connect(cls, address: str) -> RawClient:
        where: Any
        if address.startswith("unix:"):
            sock, where = socket.socket(socket.AF_UNIX), address.removeprefix("unix:")
        else:
            host, _, port = address.rpartition(":")
            sock, where = socket.socket(), (host, int(port))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def send_now(self, data: bytes) -> None:
        """What a socket takes without waiting."""
        assert self._socket.send(data) == len(data)

    async def another(self) -> RawClient:
        """A connection to the same server."""
        host, port = self._socket.getpeername()
        return await self.connect(f"{host}:{port}")

    async def turn(self) -> None:
        """Receives all that the server sends before it answers a PING, or until it closes the connection."""
        self._pings += 1
        payload = b"turn%4d" % self._pings
        await self.send(wire.ping(payload))
        answer = wire.ping(payload, wire.ACK)
        while answer not in self.received and not self.over:
            await self.receive()

    async def receive(self) -> None:
        """Whatever comes next."""
        data = b""
        with suppress(ConnectionError):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
        self.received += data
        self.over = not data

    @property
    def frames(self) -> list[wire.Received]:
        return list(wire.parse(bytes(self.received)))

    def close(self) -> None:
        self._socket.close()

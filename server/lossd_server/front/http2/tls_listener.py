"""TLS listener: takes connections, and bounds how many are in their handshake at once.

asyncio's own listener tells nothing of a connection before its handshake is over, so that a flood of clients that never
finish one would hold descriptors and memory without any bound but time. Here the oldest gives way to the newest: who
means it is done long before.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)

# For a client's part of TLS, before it is a connection.
HANDSHAKE_S = 10.0
# Handshakes at once: a client a tenth of a second away is served while 10,000 others arrive each second.
MOST_HANDSHAKES = 1024
# Taken in one turn of the loop: handshakes that are under way have theirs in between.
AT_ONCE = 32
# Without descriptors, until it is tried again.
PAUSE_S = 1.0


class TlsListener:
    """Of one address. made: the protocol of a connection. context: asked for each."""

    def __init__(
        self,
        made: Callable[[], asyncio.BaseProtocol],
        context: Callable[[], ssl.SSLContext],
        most: int = MOST_HANDSHAKES,
    ) -> None:
        self._made = made
        self._context = context
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        # Handshakes under way, the oldest first.
        self._unfinished: dict[asyncio.Task[None], socket.socket] = {}

    @property
    def unfinished(self) -> int:
        """Handshakes under way."""
        return len(self._unfinished)

    async def listen(self, host: str, port: int, shares_port: bool, backlog: int) -> int:
        """Listens; the port, which is picked where it is 0. Raises OSError."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            self._sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(where)
                sock.listen(backlog)
            except OSError:
                self._close_sockets()
                raise
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)
        bound: int = self._sockets[0].getsockname()[1]
        return bound

    def take(self, listening: socket.socket) -> None:
        """Takes the connections of a socket that listens, and closes it with the others."""
        listening.setblocking(False)
        self._sockets.append(listening)
        self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Takes no more connections; handshakes go on."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        self._close_sockets()

    async def end_handshakes(self) -> None:
        """Ends those under way."""
        for sock in self._unfinished.values():
            _end(sock)
        if self._unfinished:
            await asyncio.wait(list(self._unfinished))

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, _where = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptor is free: those of handshakes are given up first.
                log.warning("no connection taken", extra={"error": error.strerror or str(error)})
                self._make_room(0)
                self._loop.remove_reader(listening)
                self._loop.call_later(PAUSE_S, self._accept_again, listening)
                return
            self._make_room(self._most - 1)
            sock.setblocking(False)
            task = self._loop.create_task(self._shake_hands(sock))
            self._unfinished[task] = sock
            task.add_done_callback(self._finished)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _make_room(self, most: int) -> None:
        while len(self._unfinished) > most:
            oldest = next(iter(self._unfinished))
            _end(self._unfinished.pop(oldest))

    async def _shake_hands(self, sock: socket.socket) -> None:
        # It failed, or took too long: there is no connection, and nobody to tell. ssl.SSLError is an OSError.
        with suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._made, sock, ssl=self._context(), ssl_handshake_timeout=HANDSHAKE_S
            )

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._unfinished.pop(task, None)


def _end(sock: socket.socket) -> None:
    """Its transport notices, and closes it."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

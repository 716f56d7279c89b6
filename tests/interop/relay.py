"""TCP relay between a client and a server: counts connections, and the PINGs that cross it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

PREFACE_BYTES, HEAD_BYTES = 24, 9
PING, ACK = 6, 1


class Relay:
    """connections: of clients, so far. pings, answers: the client's PINGs, and what the server answered them with."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self.connections = self.pings = self.answers = 0
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for way in ((client, server, PREFACE_BYTES, self._asked), (server, client, 0, self._answered)):
                    threading.Thread(target=_carry, args=way, daemon=True).start()

    def _asked(self, flags: int) -> None:
        self.pings += not flags & ACK

    def _answered(self, flags: int) -> None:
        self.answers += flags & ACK


def _carry(source: socket.socket, target: socket.socket, preface: int, pinged: Callable[[int], None]) -> None:
    """Until either side is gone. pinged: called with the flags of each PING."""
    heads = FrameHeads(preface)
    with suppress(OSError), closing(source), closing(target):
        while data := source.recv(1 << 18):
            target.sendall(data)
            for kind, flags in heads.of(data):
                if kind == PING:
                    pinged(flags)


class FrameHeads:
    """Types and flags of the frames in a connection's bytes, however they are cut. skip: bytes before the first."""

    def __init__(self, skip: int) -> None:
        self._skip = skip
        self._head = bytearray()

    def of(self, data: bytes) -> Iterator[tuple[int, int]]:
        while data:
            if self._skip:
                taken = min(self._skip, len(data))
                self._skip -= taken
            else:
                taken = min(HEAD_BYTES - len(self._head), len(data))
                self._head += data[:taken]
                if len(self._head) == HEAD_BYTES:
                    self._skip = int.from_bytes(self._head[:3])
                    yield self._head[3], self._head[4]
                    self._head.clear()
            data = data[taken:]

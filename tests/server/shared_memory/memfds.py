"""A client of the shared-memory socket that says what it is told to, right or wrong."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from lossd.shared_memory import socket_protocol

PAGE = mmap.PAGESIZE
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def memfd(size: int = PAGE, *, seals: int = SEALS, filled: bool = True, flags: int = 0) -> int:
    """An open memfd; by default as a client of ours makes it."""
    file = os.memfd_create("lossd-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(file, size)
    if filled:
        os.posix_fallocate(file, 0, size)
    if seals:
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


class Peer:
    """One connection. Every receive and send ends after a bound, so that a silent server fails a test."""

    def __init__(self, path: str, *, greeted: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for bounded in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, bounded, struct.pack("@ll", 30, 0))
        self.socket.connect(path)
        if greeted:
            self.socket.send(socket_protocol.HELLO)
            assert self.hear().startswith(socket_protocol.HELLO)

    def hear(self) -> bytes:
        """The next record; b"" where the server has closed."""
        try:
            return self.socket.recv(socket_protocol.ANSWER_BYTES)
        except ConnectionResetError:
            return b""

    def hand(self, size: int, *files: int) -> bytes | tuple[str, str] | None:
        """Registers: the token, or reason and sentence of the refusal, or None where the server has closed."""
        socket.send_fds(self.socket, [socket_protocol.register(size)], files)
        return socket_protocol.read_answer(self.hear())

    def give(self, size: int = PAGE) -> bytes:
        """The token of a new region."""
        file = memfd(size)
        try:
            token = self.hand(size, file)
        finally:
            os.close(file)
        assert isinstance(token, bytes), token
        return token

    def close(self) -> None:
        self.socket.close()


@contextmanager
def connected(path: str, *, greeted: bool = True) -> Iterator[Peer]:
    peer = Peer(path, greeted=greeted)
    try:
        yield peer
    finally:
        peer.close()


def mappings() -> int:
    """Shared memory that this process has mapped, in mappings."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        return sum("/memfd:lossd" in line for line in file)


def descriptors() -> int:
    """Open files of this process that are shared memory or sockets."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith(("/memfd:lossd", "socket:"))
        except FileNotFoundError:  # the listing's own
            continue
    return count

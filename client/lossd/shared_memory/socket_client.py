"""Socket client of shared memory: makes sealed memory and registers it with the server. Linux only."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
from contextlib import suppress
from errno import EINVAL

from lossd.errors import Error, InternalError, Overloaded, TooLarge, Unavailable
from lossd.shared_memory import socket_protocol

_NOEXEC_SEAL = 8  # MFD_NOEXEC_SEAL, of linux/memfd.h
CONNECT_S = 2.0  # a server's loop answers in microseconds; a computing one in less than this
ANSWER_S = 10.0


class SocketClient:
    """One connection. Not thread-safe: its owner's lock is held."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def register(self, size: int) -> tuple[bytes, mmap.mmap]:
        """New memory of `size` bytes, a multiple of the page, and its token; every page is there.

        Raises Overloaded or TooLarge where the server refuses, Unavailable where the connection is lost, MemoryError.
        """
        file = _memfd()
        try:
            mapped = _filled(file, size)
            socket.send_fds(self._socket, [socket_protocol.register(size)], [file])
            answer = socket_protocol.read_answer(self._socket.recv(socket_protocol.ANSWER_BYTES))
        except OSError as error:
            self.close()
            raise lost() from error
        finally:
            os.close(file)
        if isinstance(answer, bytes):
            return answer, mapped
        if answer is None:
            self.close()
            raise lost()
        raise _refusal(*answer)

    def end(self, token: bytes) -> bool:
        """Ends a region, without waiting. False: the server has not read what was sent before; try again later."""
        try:
            self._socket.send(socket_protocol.end_region(token), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
        return True

    @property
    def alive(self) -> bool:
        """Whether the other end is there; asked without the lock, so an answer to another thread may be under way."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def leave(self) -> None:
        """Ends the conversation: whoever waits for an answer gets an error."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes this process's end. The other one hears of it when no forked child holds it any more."""
        self._socket.close()


def connect(path: str, instance_id: str) -> SocketClient | None:
    """A connection to that very server process; None where it cannot be reached, or another answers.

    Raises Overloaded where it has no room for one more.
    """
    if sys.platform != "linux" or not path or not hasattr(os, "memfd_create"):  # some builds of Python lack it
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        _limit(connection, CONNECT_S)
        connection.connect(path)
        said = _first_answer(connection)
        if socket_protocol.read_greeting(said) == instance_id:
            _limit(connection, ANSWER_S)
            return SocketClient(connection)
        refusal = socket_protocol.read_answer(said)
        if isinstance(refusal, tuple) and refusal[0] == socket_protocol.FULL:
            connection.close()
            raise _refusal(*refusal)
    except OSError:  # no such path, nobody listens, not allowed, too late
        pass
    connection.close()
    return None


def _first_answer(connection: socket.socket) -> bytes:
    """What the server says first. One that has no room says so, and closes at once: the answer lies behind that."""
    with suppress(ConnectionError):
        connection.send(socket_protocol.HELLO)
    with suppress(ConnectionError):
        return connection.recv(socket_protocol.ANSWER_BYTES)
    return connection.recv(socket_protocol.ANSWER_BYTES)


def _limit(connection: socket.socket, limit_s: float) -> None:
    """Bounds each call by the kernel's clock. Python's own timeouts would wait under MSG_DONTWAIT too."""
    limit = struct.pack("@ll", int(limit_s), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _memfd() -> int:
    """An open memfd: not executable, which some systems insist on and those before Linux 6.3 do not know."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            return os.memfd_create("lossd", flags | _NOEXEC_SEAL)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            return os.memfd_create("lossd", flags)
    except OSError as error:
        raise MemoryError(f"no shared memory: {error.strerror}") from error


def _filled(file: int, size: int) -> mmap.mmap:
    """Sealed memory, mapped. Its pages are made here, where running out of memory is an error and no signal."""
    import fcntl  # not everywhere

    try:
        os.ftruncate(file, size)
        os.posix_fallocate(file, 0, size)
        mapped = mmap.mmap(file, size)
    except OSError as error:
        raise MemoryError(f"no shared memory of {size} bytes: {error.strerror}") from error
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return mapped


def _refusal(reason: str, sentence: str) -> Error:
    if reason == socket_protocol.FULL:
        return Overloaded(sentence, reason=reason, retry_after_s=socket_protocol.FULL_RETRY_AFTER_S)
    if reason == "REGION_TOO_LARGE":
        return TooLarge(sentence, reason=reason)
    return InternalError(sentence, reason=reason)


def lost() -> Unavailable:
    return Unavailable("the connection for shared memory is lost", reason="SHARED_MEMORY_LOST")

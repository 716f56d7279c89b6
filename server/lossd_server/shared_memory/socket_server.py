"""Socket server where clients register memory: a connection's rules, and the thin I/O around them.

`SocketSession` decides and does no I/O. `SocketServer` reads one record at a time: a busy client takes turns with all
else on the loop. What is not said as `lossd.shared_memory.socket_protocol` says it ends that connection alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Hashable
from contextlib import suppress
from threading import Thread, current_thread
from typing import Any

import numpy as np

from lossd.shared_memory import socket_protocol
from lossd_server.backends import Pinning
from lossd_server.processes.private_folder import PrivateFolder
from lossd_server.shared_memory.mapped_region import MappedRegion, NotTaken, mapped, touch, unmap
from lossd_server.shared_memory.peer_process import no_place, process_of
from lossd_server.shared_memory.registry import RegionRegistry

HANDSHAKE_S = 10.0  # a client says its first word in microseconds
MAX_CONNECTIONS = 256  # clients on one host; each holds a descriptor
DESCRIPTORS_SHORT_S = 1.0  # until connections are taken again where the process has no descriptors left
NO_DESCRIPTORS = "the server has no descriptors left for the memfd now"
_INT = struct.calcsize("i")

log = logging.getLogger(__name__)


class Malformed(Exception):
    """A record that no client of ours sends."""


class SocketSession:
    """One connection's state: whether it has said its first word, and what it holds in the table.

    process: the client's, which has a share of what there is.
    """

    def __init__(self, regions: RegionRegistry, instance_id: str, process: Hashable = None) -> None:
        self.greeted = False
        self.process = process
        self._regions = regions
        self._instance_id = instance_id

    def hear(
        self, record: bytes, files: list[int], flags: int
    ) -> tuple[bytes, MappedRegion | None, list[MappedRegion]]:
        """The answer to a record, b"" where it has none; the region it began, and those it ended.

        files: open ones that came along, which stay the caller's. flags: as recvmsg gives them. Raises Malformed.
        """
        if flags & socket.MSG_CTRUNC and not files and self.greeted:
            # A file came along that this process has no descriptor for.
            return socket_protocol.refused(socket_protocol.FULL, NO_DESCRIPTORS), None, []
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise Malformed
        if not self.greeted:
            if record != socket_protocol.HELLO or files:
                raise Malformed
            self.greeted = True
            return socket_protocol.greeting(self._instance_id), None, []
        token = socket_protocol.read_end(record)
        if token is not None and not files:
            return b"", None, self._regions.remove(self, token)
        size = socket_protocol.read_register(record)
        if size is None or len(files) != 1:
            raise Malformed
        try:
            self._regions.admit(self.process, size)
            region = mapped(files[0], size)
        except NotTaken as refusal:
            return socket_protocol.refused(refusal.reason, refusal.sentence), None, []
        return socket_protocol.granted(self._regions.add(self, region, self.process)), region, []

    def leave(self) -> list[MappedRegion]:
        """All that the connection held."""
        return self._regions.leave(self)


class SocketServer:
    """The listening socket and its connections, on the running loop. `path` is "" before `start`.

    pinning: is told of every region, so that its device may copy from there.
    """

    def __init__(
        self,
        regions: RegionRegistry,
        instance_id: str,
        *,
        handshake_s: float = HANDSHAKE_S,
        pinning: Pinning | None = None,
    ) -> None:
        self.path = ""
        self._pinning = pinning
        self._regions = regions
        self._instance_id = instance_id
        self._handshake_s = handshake_s
        self._loop = asyncio.get_running_loop()
        self._folder: PrivateFolder | None = None
        self._listener: socket.socket | None = None
        self._made: tuple[int, int] = (0, 0)
        self._threads: set[Thread] = set()
        self._connections: dict[socket.socket, tuple[SocketSession, asyncio.TimerHandle]] = {}

    def start(self, path: str = "", mode: int = 0o600, group: int = -1) -> None:
        """Listens at `path`, or in a private folder. Raises OSError with a sentence."""
        if not path:
            self._folder = PrivateFolder()
            path = f"{self._folder.path}/memory"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _bind(listener, path)
            found = os.stat(path)
            self._made = found.st_dev, found.st_ino
            # Before it listens nobody can connect, so that no moment is left between the two.
            os.chmod(path, mode)
            if group >= 0:
                os.chown(path, -1, group)
            listener.listen()
        except (OSError, ValueError) as error:
            listener.close()
            self._remove(path)
            raise OSError(f"cannot listen on {path} for shared memory: {error}") from error
        listener.setblocking(False)
        self.path = path
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    def stop(self) -> None:
        """Ends every connection, and with them all regions. Idempotent."""
        for connection in list(self._connections):
            self._close(connection)
        for thread in list(self._threads):
            thread.join()
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()
            self._remove(self.path)
            self.path = ""

    def _remove(self, path: str) -> None:
        """Removes what `start` made, and nothing that another made in its place."""
        with suppress(OSError):
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(path)
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors left: the listener stays readable, and would take the whole loop
            log.warning("shared memory: no connection taken", extra={"error": os.strerror(error.errno or 0)})
            self._loop.remove_reader(self._listener)
            self._loop.call_later(DESCRIPTORS_SHORT_S, self._accept_again)
            return
        connection.setblocking(False)
        process = process_of(connection)
        sentence = no_place(process, [one.process for one, _ in self._connections.values()], MAX_CONNECTIONS)
        if sentence:
            with suppress(OSError):
                connection.send(socket_protocol.refused(socket_protocol.FULL, sentence))
            connection.close()
            return
        timer = self._loop.call_later(self._handshake_s, self._time_over, connection)
        self._connections[connection] = SocketSession(self._regions, self._instance_id, process), timer
        self._loop.add_reader(connection, self._hear, connection)

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    def _time_over(self, connection: socket.socket) -> None:
        if connection in self._connections and not self._connections[connection][0].greeted:
            self._close(connection)

    def _hear(self, connection: socket.socket) -> None:
        conversation, _ = self._connections[connection]
        try:
            record, ancillary, flags, _ = connection.recvmsg(
                socket_protocol.REQUEST_BYTES, socket.CMSG_SPACE(_INT), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        files = _files(ancillary)
        try:
            if not record:
                raise Malformed  # or the end: a record of no bytes looks the same
            answer, began, ended = conversation.hear(record, files, flags)
            if answer:
                connection.send(answer)
        except (OSError, MemoryError, Malformed):  # where the answer finds no room, this client does not read
            self._close(connection)
            return
        finally:
            for file in files:
                os.close(file)
        if began is not None:
            self._aside(self._begin, began, connection)
        if ended:
            self._aside(self._end, ended, connection)

    def _close(self, connection: socket.socket) -> None:
        conversation, timer = self._connections.pop(connection)
        timer.cancel()
        self._loop.remove_reader(connection)
        connection.close()
        ended = conversation.leave()
        if ended:
            self._aside(self._end, ended)

    def _begin(self, region: MappedRegion) -> None:
        touch(region)
        if self._pinning is not None:
            try:
                self._pinning.pin(_address(region), region.size)
            except RuntimeError as error:  # it is packed like any other memory
                log.warning("shared memory: not pinned", extra={"error": str(error)})

    def _end(self, regions: list[MappedRegion]) -> None:
        if self._pinning is not None:
            for region in regions:
                self._pinning.unpin(_address(region))
        unmap(regions)

    def _aside(self, work: Callable[[Any], None], of: Any, connection: socket.socket | None = None) -> None:
        """In a thread: 0.05 s for a GB. The connection is not read meanwhile: who ended a region has its room next."""

        def run() -> None:
            try:
                work(of)
            finally:
                self._threads.discard(current_thread())
                if connection is not None:
                    with suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._resume, connection)

        if connection is not None:
            self._loop.remove_reader(connection)
        # Not asyncio's executor, which takes nothing once the interpreter begins to end.
        thread = Thread(target=run, name="lossd-regions", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # no room for its stack: the loop waits
            self._threads.discard(thread)
            run()

    def _resume(self, connection: socket.socket) -> None:
        if connection in self._connections:
            self._loop.add_reader(connection, self._hear, connection)


def _address(region: MappedRegion) -> int:
    return int(np.frombuffer(region.memory, np.uint8).ctypes.data)


def _files(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors among a message's ancillary data."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found += struct.unpack(f"{len(data) // _INT}i", data[: len(data) // _INT * _INT])
    return found


def _bind(listener: socket.socket, path: str) -> None:
    """Binds, in the place of a socket where nobody listens any more."""
    try:
        listener.bind(path)
        return
    except OSError:
        if not os.path.exists(path):
            raise
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError("another server listens there")
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise OSError("a file is there that is no socket")
    os.unlink(path)
    listener.bind(path)

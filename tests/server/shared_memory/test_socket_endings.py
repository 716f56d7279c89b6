"""The shared-memory socket: its clients' ends, its file, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import grp
import mmap
import os
import socket
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from lossd.shared_memory import socket_protocol
from lossd_server.config.address import group_of
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import SocketServer
from tests.server.shared_memory.listening import INSTANCE, MOST, against, alive, listening
from tests.server.shared_memory.memfds import PAGE, Peer, connected, descriptors, mappings, memfd
from tests.waiting import until


def test_a_silent_client() -> None:
    """A client that says nothing is closed when its time is over; one that has greeted may be silent."""

    def talk(path: str) -> None:
        with connected(path) as greeted, connected(path, greeted=False) as silent:
            assert silent.hear() == b""
            greeted.give()

    against(talk, handshake_s=0.5)


def test_a_client_that_does_not_read() -> None:
    """A client that never reads its answers is closed when they pile up; others go on."""

    def talk(path: str) -> None:
        file = memfd(MOST + PAGE)
        with connected(path) as peer, suppress(BrokenPipeError, ConnectionResetError):
            while True:
                socket.send_fds(peer.socket, [socket_protocol.register(MOST + PAGE)], [file])
        os.close(file)
        alive(path)

    against(talk)


def test_an_end_of_another_client() -> None:
    """A client cannot end a region that is not its own."""

    def talk(path: str) -> None:
        with connected(path) as owner, connected(path) as other:
            token = owner.give(MOST // 2)
            other.socket.send(socket_protocol.end_region(token))
            assert isinstance(other.hand(MOST, file), tuple)
            owner.socket.send(socket_protocol.end_region(token))
            owner.give(MOST)

    file = memfd(MOST)
    against(talk)
    os.close(file)


def test_no_room_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread cannot be started, for its stack finds no memory, regions begin and end all the same."""
    gc.collect()
    before = descriptors(), mappings()
    start = threading.Thread.start

    def short(thread: threading.Thread) -> None:
        if thread.name == "lossd-regions":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", short)

    def talk(path: str) -> None:
        with connected(path) as peer:
            for _ in range(3):
                peer.socket.send(socket_protocol.end_region(peer.give(MOST)))
            peer.give(MOST)

    against(talk)
    gc.collect()

    assert (descriptors(), mappings()) == before


def test_cycles_leave_nothing() -> None:
    """After some hundred connections and regions the process has its descriptors and mappings of before."""
    gc.collect()
    before = descriptors(), mappings()

    def talk(path: str) -> None:
        for cycle in range(300):
            with connected(path) as peer:
                for _ in range(1 + cycle % 3):
                    token = peer.give()
                if cycle % 2:
                    peer.socket.send(socket_protocol.end_region(token))

    against(talk, max_bytes=MOST)
    gc.collect()

    assert (descriptors(), mappings()) == before


def test_private_socket() -> None:
    """By default only this user reaches the socket, and nothing of it is left."""

    async def run() -> str:
        async with listening() as (handover, _):
            folder = os.path.dirname(handover.path)
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
            assert stat.S_IMODE(os.stat(handover.path).st_mode) == 0o600
            return folder

    assert not os.path.exists(asyncio.run(run()))


def test_path_mode_and_group(tmp_path: Path) -> None:
    """The socket's path, mode and group can be given; what another put in its place is left alone."""
    path = str(tmp_path / "socket")

    async def run() -> None:
        handover = SocketServer(RegionRegistry(PAGE, PAGE), INSTANCE)
        handover.start(path, 0o660, os.getgid())
        found = os.stat(path)
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
        os.unlink(path)
        Path(path).write_text("another's")
        handover.stop()
        handover.stop()

    asyncio.run(run())
    assert Path(path).read_text() == "another's"


def test_the_place_of_another(tmp_path: Path) -> None:
    """A socket that nobody serves is replaced; one that is served, and any other file, is not."""
    path = str(tmp_path / "socket")

    async def run() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
            left.bind(path)
        first, second = (SocketServer(RegionRegistry(PAGE, PAGE), INSTANCE) for _ in range(2))
        first.start(path)
        with pytest.raises(OSError, match="another server listens"):
            second.start(path)
        await asyncio.to_thread(alive, path)
        first.stop()
        assert not os.path.exists(path)
        Path(path).write_text("a file")
        with pytest.raises(OSError, match="no socket"):
            second.start(path)
        assert Path(path).read_text() == "a file"

    asyncio.run(run())


def test_group_of() -> None:
    """A group is named or numbered; none is the process's own."""
    own = grp.getgrgid(os.getgid())

    assert group_of(own.gr_name) == group_of(str(own.gr_gid)) == own.gr_gid
    assert group_of("") == -1
    with pytest.raises(OSError, match="no group"):
        group_of("no such group")


def served(path: str) -> bool:
    """Whether a client is greeted."""
    with connected(path, greeted=False) as peer:
        with suppress(BrokenPipeError):  # turned away already
            peer.socket.send(socket_protocol.HELLO)
        return peer.hear().startswith(socket_protocol.HELLO)


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections over the cap are told that it passes, and closed; a place that comes free is taken."""
    monkeypatch.setattr("lossd_server.shared_memory.socket_server.MAX_CONNECTIONS", 2)

    def talk(path: str) -> None:
        with connected(path) as first, connected(path):
            with connected(path, greeted=False) as third:
                answer = socket_protocol.read_answer(third.hear())
                assert isinstance(answer, tuple)
                assert answer[0] == socket_protocol.FULL
                assert third.hear() == b""
            first.close()
            until(lambda: served(path), "the place that came free is taken")

    against(talk)


def test_not_inherited() -> None:
    """No program that the server's process starts gets a client's memory."""
    listed = []

    def talk(path: str) -> None:
        with connected(path) as peer:
            peer.give()
            listed.append(
                subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True).stdout
            )

    against(talk)

    assert "->" in listed[0]
    assert "memfd" not in listed[0]


def test_mappings_are_shared() -> None:
    """What the client writes is what the server's table holds."""

    async def run() -> None:
        async with listening() as (handover, regions):
            file = memfd()

            def talk() -> tuple[Peer, bytes | tuple[str, str] | None]:
                peer = Peer(handover.path)
                return peer, peer.hand(PAGE, file)

            peer, token = await asyncio.to_thread(talk)
            with mmap.mmap(file, PAGE) as mine:
                mine[:5] = b"hello"
            os.close(file)
            assert isinstance(token, bytes)
            held = regions._regions[token].memory

            assert bytes(held[:5]) == b"hello"
            peer.close()

    asyncio.run(run())

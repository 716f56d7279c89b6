"""Where the shared-memory socket is, whose it is, and what happens where it cannot be."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from lossd.v1.service_pb2 import GetServerInfoRequest
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.processes.worker_share import share
from lossd_server.server import Server
from lossd_server.shared_memory.socket_server import SocketServer
from tests.server.edge import EdgeBackend
from tests.server.running import serving, stub
from tests.server.shared_memory.memfds import connected
from tests.waiting import until_awaited


def test_a_path_that_was_given(tmp_path: Path) -> None:
    """The socket lies where it was wanted, with the mode that was wanted, and GetServerInfo tells."""
    wanted = str(tmp_path / "memory-{worker}")

    async def run() -> None:
        options: Any = {"shared_memory_socket": wanted, "shared_memory_mode": "660"}
        async with serving(EdgeBackend(), **options, max_shared_memory_bytes=1 << 20) as (_, channel):
            info = await stub(channel).GetServerInfo(GetServerInfoRequest())

            assert info.shared_memory_socket == str(tmp_path / "memory-0")
            assert info.limits.max_shared_memory_bytes == 1 << 20
            assert stat.S_IMODE(os.stat(info.shared_memory_socket).st_mode) == 0o660
            await asyncio.to_thread(lambda: connected(info.shared_memory_socket).__enter__().close())

    asyncio.run(run())
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    """A socket that was asked for and cannot be had ends the start, with a sentence that names it."""
    settings = Settings(listen=("127.0.0.1:0",), shared_memory_socket=str(tmp_path / "missing" / "memory"))

    async def run() -> None:
        server = Server(settings, EdgeBackend())
        with pytest.raises(OSError, match="missing/memory for shared memory"):
            await server.start()
        await server.stop(1.0, linger_s=0.0)

    asyncio.run(run())


def test_no_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no private folder can be made the server does without shared memory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr("lossd_server.processes.private_folder.FALLBACKS", ())

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            info = await stub(channel).GetServerInfo(GetServerInfoRequest())

            assert info.shared_memory_socket == ""
            assert info.limits.max_shared_memory_bytes == 0

    asyncio.run(run())


def test_no_descriptors_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that cannot be had for want of descriptors is had later; until then its bytes are told, and no path."""
    monkeypatch.setattr("lossd_server.server.SHARE_AGAIN_S", 0.0)
    short = [OSError(errno.EMFILE, "Too many open files")]
    start = SocketServer.start

    def once(self: SocketServer, *how: Any) -> None:
        if short:
            raise OSError("cannot listen for shared memory") from short.pop()
        start(self, *how)

    monkeypatch.setattr(SocketServer, "start", once)

    async def run() -> None:
        server = Server(Settings(listen=("127.0.0.1:0",)), EdgeBackend())
        (address,) = await server.start()
        async with grpc.aio.insecure_channel(address) as channel:

            async def shared() -> bool:
                info = await stub(channel).GetServerInfo(GetServerInfoRequest())
                assert info.limits.max_shared_memory_bytes > 0
                return bool(info.shared_memory_socket)

            await until_awaited(shared, "the socket is there")
        await server.stop(1.0, linger_s=0.0)

    asyncio.run(run())
    assert not short


def test_workers_have_their_own() -> None:
    """Each worker has a socket and its share of the bytes."""
    settings = Settings(workers=2, shared_memory_socket="/run/lossd/{worker}", max_shared_memory_bytes=1 << 20)
    shares = [share(settings, index) for index in range(2)]

    assert [one.shared_memory_socket for one in shares] == ["/run/lossd/0", "/run/lossd/1"]
    assert [one.max_shared_memory_bytes for one in shares] == [1 << 19] * 2


@pytest.mark.parametrize(
    "options, words",
    [
        ({"shared_memory_mode": "rw"}, "octal"),
        ({"shared_memory_mode": "888"}, "octal"),
        ({"shared_memory_socket": ""}, "auto or off"),
        ({"shared_memory_socket": "/run/memory", "workers": 2}, r"\{worker\}"),
        ({"max_shared_memory_bytes": -1}, "must be above 0"),
    ],
)
def test_refused(options: Any, words: str) -> None:
    """What cannot be used is refused with a sentence that names it."""
    with pytest.raises(SettingsError, match=words):
        Settings(**options)

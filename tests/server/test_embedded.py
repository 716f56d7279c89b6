"""The server inside this process."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import grpc
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.embedded import EmbeddedServer
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy


def test_answers() -> None:
    """It answers a synchronous client on a Unix socket that only this user can reach, and leaves nothing behind."""
    before = threading.active_count()
    with EmbeddedServer(backend=EdgeBackend()) as server:
        folder = os.path.dirname(server.address.removeprefix("unix:"))
        with grpc.insecure_channel(server.address) as channel:
            answer = LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30)

        assert answer.summary.count == 4
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert not os.path.exists(folder)
    assert threading.active_count() <= before + 1  # grpc's own poller may stay


def test_again_and_beside_each_other() -> None:
    """Two may run at once, and one may be started after another; close is idempotent."""
    first, second = EmbeddedServer(backend=EdgeBackend()).start(), EmbeddedServer(backend=EdgeBackend()).start()

    assert first.address != second.address
    for server in (first, second):
        with grpc.insecure_channel(server.address) as channel:
            assert LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count == 4
        server.close()
        server.close()
    with pytest.raises(RuntimeError, match="not running"):
        assert first.address
    with EmbeddedServer(backend=EdgeBackend()) as third, grpc.insecure_channel(third.address) as channel:
        assert LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count == 4


def test_its_own_thread_may_close_it() -> None:
    """Which is where garbage collection of its client may run: the thread does not wait for itself."""
    server = EmbeddedServer(backend=EdgeBackend()).start()
    folder = os.path.dirname(server.address.removeprefix("unix:"))
    assert server._thread is not None
    thread, loop = server._thread._thread, server._thread._loop
    assert thread is not None
    assert loop is not None

    loop.call_soon_threadsafe(server.close)
    thread.join(30)

    assert not thread.is_alive()
    assert not os.path.exists(folder)


def test_a_start_removes_the_folders_of_processes_that_were_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process that left by os._exit."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    left = tmp_path / "lossd-killed"
    left.mkdir(mode=0o700)
    (left / "lock").touch(mode=0o600)

    with EmbeddedServer(backend=EdgeBackend()):
        assert not left.exists()


def test_a_long_temporary_folder_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket's path has 107 bytes: its folder is made elsewhere."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with EmbeddedServer(backend=EdgeBackend()) as server, grpc.insecure_channel(server.address) as channel:
        assert LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count == 4
        assert str(folder) not in server.address

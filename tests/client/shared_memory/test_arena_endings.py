"""The client's regions where something ends, is full or is not there."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lossd.errors import Overloaded, TooLarge, Unavailable
from lossd.shared_memory.arena import SLAB_BYTES, Arena
from lossd.shared_memory.socket_protocol import FULL_RETRY_AFTER_S
from tests.client import programs
from tests.client.shared_memory.sharing import LARGE, opened, serving


@pytest.fixture
def regions() -> Iterator[Arena]:
    with serving() as info:
        found = opened(info)
        yield found
        found.close()


def test_the_server_is_full() -> None:
    """Without room the server's refusal is raised; idle regions make room first."""
    with serving(max_shared_memory_bytes=4 * LARGE) as info:
        regions = opened(info)
        with pytest.raises(TooLarge, match="takes 12582912"):
            regions.empty((5 * LARGE,), np.uint8)
        for _ in range(2):
            idle = regions.empty((2 * LARGE,), np.uint8)
        del idle
        gc.collect()
        whole = regions.empty((4 * LARGE,), np.uint8)
        with pytest.raises(Overloaded, match="does not fit") as caught:
            regions.empty((LARGE,), np.uint8)
        assert caught.value.retry_after_s == FULL_RETRY_AFTER_S

        assert regions.find(whole) is not None
        regions.close()


def test_a_lost_connection() -> None:
    """When the server goes nothing is found any more, arrays stay, and new memory is refused."""
    with serving() as info:
        regions = opened(info)
        array = regions.empty((10,), np.float32)
        array[:] = 5
        assert regions.find(array) is not None

    assert regions.find(array) is None
    with pytest.raises(Unavailable, match="lost"):
        regions.empty((LARGE,), np.uint8)
    assert array.tolist() == [5] * 10
    regions.close()


def test_closed(regions: Arena) -> None:
    """After close nothing is found or lent; arrays stay."""
    array = regions.empty((10,), np.float32)
    array[:] = 5
    regions.close()
    regions.close()

    assert regions.find(array) is None
    with pytest.raises(Unavailable):
        regions.lend(10)
    assert array.tolist() == [5] * 10


def answer(listener: socket.socket, there: str) -> None:
    """Takes one connection, and closes it with a word or without."""
    connection, _ = listener.accept()
    with connection:
        if there == "not ours":
            connection.send(b"220 welcome")


@pytest.mark.parametrize("there", ["nothing", "a file", "another instance", "not ours", "silence"])
def test_not_connected(there: str, tmp_path: Path) -> None:
    """Where no such server answers there are no regions."""
    path, answering = tmp_path / "socket", None
    with serving() as info, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        if there == "a file":
            path.write_text("")
        elif there in ("not ours", "silence"):
            listener.bind(str(path))
            listener.listen()
            answering = threading.Thread(target=answer, args=(listener, there))
            answering.start()
        found = info.shared_memory_socket if there == "another instance" else str(path)

        assert Arena.connect(found, "another instance") is None
        assert Arena.connect("", "another instance") is None
        if answering is not None:
            answering.join()


def test_many_threads(regions: Arena) -> None:
    """Threads that lend, write and release at once never share memory."""
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(50):
            array = regions.empty((1 + 997 * (turn % 5),), np.int64)
            array[:] = number
            loan = regions.lend(2 << 20 if turn % 10 == 0 else 64)
            loan.memory[:] = number
            if not (array == number).all() or not (loan.memory == number).all() or regions.find(array) is None:
                wrong.append(number)
            loan.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_forked_child(regions: Arena) -> None:
    """A child finds and lends nothing; what it drops and closes stays its parent's."""
    array = regions.empty((LARGE,), np.uint8)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = regions.find(array)
            try:
                regions.lend(10)
            except Unavailable:
                del array
                gc.collect()
                regions.close()
                status = 0 if found is None else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert regions.find(array) is not None
    assert regions.empty((2 * SLAB_BYTES,), np.uint8).size


def test_quiet_without_close() -> None:
    """A program that never closes its regions ends without a word."""
    program = """
    import sys
    import numpy as np
    from lossd.shared_memory.arena import Arena

    regions = Arena.connect(*sys.argv[1:])
    array = regions.empty((10,), np.float32)
    other = Arena.connect(*sys.argv[1:])
    del other
    """
    with serving() as info:
        done = programs.run(program, info.shared_memory_socket, info.instance_id)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems than Linux there are no regions."""
    with serving() as info:
        monkeypatch.setattr("sys.platform", "darwin")

        assert Arena.connect(info.shared_memory_socket, info.instance_id) is None

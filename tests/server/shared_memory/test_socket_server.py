"""The shared-memory socket: what is taken, what is refused, and what ends a connection and nothing else."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.shared_memory import socket_protocol
from lossd_server.shared_memory.mapped_region import unmap
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import Malformed, SocketSession
from tests.server.shared_memory.listening import INSTANCE, MOST, against, alive
from tests.server.shared_memory.memfds import PAGE, SEALS, connected, descriptors, memfd


@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from(
                    [
                        socket_protocol.HELLO,
                        socket_protocol.register(PAGE),
                        socket_protocol.register(2**64 - 1),
                        socket_protocol.end_region(bytes(16)),
                    ]
                ),
                st.builds(socket_protocol.register, st.integers(0, 2**64 - 1)),
            ),
            st.integers(0, 2),
            st.sampled_from([0, 0, 0, socket.MSG_TRUNC, socket.MSG_CTRUNC]),
        ),
        max_size=8,
    ),
)
def test_any_conversation(greeted: bool, said: list[tuple[bytes, int, int]]) -> None:
    """Whatever is said, a record is answered or is malformed; before the greeting nothing but a greeting is answered.

    The end of a region has no answer.
    """
    regions = RegionRegistry(MOST, PAGE)
    conversation = SocketSession(regions, INSTANCE)
    files = [memfd(), memfd()]
    try:
        for place, (record, count, flags) in enumerate([(socket_protocol.HELLO, 0, 0)] * greeted + said):
            answer, began, _ = conversation.hear(record, files[:count], flags)
            if place == 0:
                assert record == socket_protocol.HELLO
                assert socket_protocol.read_greeting(answer) == INSTANCE
            else:
                assert answer.startswith((b"T", b"F")) or socket_protocol.read_end(record)
            assert (began is not None) == (answer[:1] == b"T")
    except Malformed:
        pass
    finally:
        for file in files:
            os.close(file)
        unmap(conversation.leave())

    assert len(regions) == 0


def test_greeting() -> None:
    """The server answers a client's first word with its instance_id."""

    def talk(path: str) -> None:
        with connected(path, greeted=False) as peer:
            peer.socket.send(socket_protocol.HELLO)

            assert socket_protocol.read_greeting(peer.hear()) == INSTANCE

    against(talk)


def test_tokens_differ() -> None:
    """Every region has a token of its own, of 128 bits."""

    def talk(path: str) -> None:
        with connected(path) as peer:
            tokens = {peer.give() for _ in range(20)}

            assert len(tokens) == 20
            assert {len(token) for token in tokens} == {16}

    against(talk)


def regular(folder: Path) -> int:
    file = os.open(folder / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(file, 0, PAGE)
    return file


def in_memory(_: Path) -> int:
    """A regular file of a tmpfs, which has no seals but the one against sealing."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no /dev/shm here")
    file = os.open("/dev/shm", os.O_RDWR | os.O_TMPFILE)
    os.posix_fallocate(file, 0, PAGE)
    return file


def huge(_: Path) -> int:
    file = os.memfd_create("lossd-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    try:
        os.ftruncate(file, 2 << 20)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        os.close(file)
        pytest.skip(f"no huge pages here: {error}")
    return file


@pytest.mark.parametrize(
    "make, size, reason",
    [
        (regular, PAGE, "NO_MEMFD"),
        (in_memory, PAGE, "NOT_SEALED"),
        (lambda _: os.pipe()[0], PAGE, "NO_MEMFD"),
        (lambda _: memfd(seals=0), PAGE, "NOT_SEALED"),
        (lambda _: memfd(seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW), PAGE, "NOT_SEALED"),
        (lambda _: memfd(seals=fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL), PAGE, "NOT_SEALED"),
        (lambda _: memfd(seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL), PAGE, "NOT_SEALED"),
        (huge, 2 << 20, "HUGE_PAGES"),
        (lambda _: memfd(filled=False), PAGE, "SPARSE"),
        (lambda _: memfd(2 * PAGE), PAGE, "SIZE_MISMATCH"),
        (lambda _: memfd(), 2 * PAGE, "SIZE_MISMATCH"),
        (lambda _: memfd(0, filled=False), 0, "SIZE_MISMATCH"),
        (lambda _: memfd(seals=SEALS | fcntl.F_SEAL_WRITE), PAGE, "NOT_MAPPED"),
        (lambda _: memfd(MOST + PAGE), MOST + PAGE, "REGION_TOO_LARGE"),
        (lambda _: memfd(), 2**64 - 1, "REGION_TOO_LARGE"),
        (lambda _: memfd(MOST), MOST, "SHARED_MEMORY_FULL"),
    ],
)  # fmt: skip
def test_files_that_are_not_taken(make: Any, size: int, reason: str, tmp_path: Path) -> None:
    """A file that could shrink, has holes or huge pages, or is too much, is refused; the connection goes on."""
    file = make(tmp_path)

    def talk(path: str) -> None:
        with connected(path) as peer:
            peer.give()
            answer = peer.hand(size, file)
            peer.give()

            assert isinstance(answer, tuple)
            assert answer[0] == reason
            assert answer[1]

    against(talk)
    os.close(file)


def test_a_region_cannot_shrink() -> None:
    """What was taken can neither shrink nor lose its seals."""
    file = memfd(2 * PAGE)

    def talk(path: str) -> None:
        with connected(path) as peer:
            assert isinstance(peer.hand(2 * PAGE, file), bytes)
            with pytest.raises(PermissionError):
                os.ftruncate(file, PAGE)
            with pytest.raises(PermissionError):
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)

    against(talk)
    os.close(file)


@pytest.mark.parametrize("count", [0, 2, 3, 50])
def test_not_exactly_one_file(count: int) -> None:
    """A registration without a file, with two, or with more than fit, ends the connection; no file is kept."""
    files = [memfd() for _ in range(count)]
    before = descriptors()

    def talk(path: str) -> None:
        with connected(path) as peer:
            assert peer.hand(PAGE, *files) is None
            assert peer.hear() == b""
        alive(path)

    against(talk)
    assert descriptors() == before
    for file in files:
        os.close(file)


@pytest.mark.parametrize(
    "record",
    [
        b"?",
        b"R",
        b"E",
        socket_protocol.register(PAGE) + b"x",
        socket_protocol.end_region(bytes(16)) + b"x",
        socket_protocol.granted(bytes(16)),
        socket_protocol.HELLO,
        bytes(33),
        bytes(100_000),
    ],
    ids=["unknown", "register cut", "end cut", "register long", "end long", "answer", "hello", "long", "huge"],
)
def test_malformed_records(record: bytes) -> None:
    """A record that no client of ours sends ends its connection, and with it its regions; others go on."""

    def talk(path: str) -> None:
        with connected(path) as other, connected(path) as peer:
            other.give()
            peer.give()
            peer.socket.send(record)
            assert peer.hear() == b""
            other.give()
        alive(path)

    against(talk)


def test_a_file_with_the_wrong_record() -> None:
    """Files that come with anything but a registration end the connection, and are closed."""
    file = memfd()
    before = descriptors()

    def talk(path: str) -> None:
        for greeted, record in (
            (False, socket_protocol.HELLO),
            (True, socket_protocol.end_region(bytes(16))),
            (True, b"x"),
        ):
            with connected(path, greeted=greeted) as peer:
                socket.send_fds(peer.socket, [record], [file])
                assert peer.hear() == b""
        alive(path)

    against(talk)
    assert descriptors() == before
    os.close(file)


@pytest.mark.parametrize("word", [b"GET / HTTP/1.1\r\n\r\n", socket_protocol.register(PAGE), b"lossd memory 2"])
def test_no_greeting(word: bytes) -> None:
    """A client whose first word is another is not answered."""

    def talk(path: str) -> None:
        with connected(path, greeted=False) as peer:
            peer.socket.send(word)
            assert peer.hear() == b""
        alive(path)

    against(talk)

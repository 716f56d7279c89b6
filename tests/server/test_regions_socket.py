"""The shared-memory socket: what is taken, what is refused, and what ends a connection and nothing else."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import grp
import mmap
import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd import memory
from lossd_server.handover import Conversation, Handover, Malformed, group_of
from lossd_server.mapping import unmap
from lossd_server.regions import Regions
from tests.server.memfds import PAGE, SEALS, Peer, connected, descriptors, mappings, memfd

INSTANCE = "0123456789abcdef"
MOST = 1024 * PAGE


@asynccontextmanager
async def listening(max_bytes: int = MOST, **how: Any) -> AsyncIterator[tuple[Handover, Regions]]:
    regions = Regions(max_bytes, 4096)
    handover = Handover(regions, INSTANCE, **how)
    handover.start()
    try:
        yield handover, regions
    finally:
        handover.stop()


def against(talk: Callable[[str], None], **how: Any) -> int:
    """Lets `talk` speak to a socket's path from another thread; the regions that are left when it has ended."""

    async def run() -> int:
        async with listening(**how) as (handover, regions):
            await asyncio.to_thread(talk, handover.path)
            return len(regions)

    return asyncio.run(run())


def alive(path: str) -> None:
    """A right client is served."""
    with connected(path) as peer:
        assert len(peer.give()) == memory.TOKEN_BYTES


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from(
                    [memory.HELLO, memory.register(PAGE), memory.register(2**64 - 1), memory.end(bytes(16))]
                ),
                st.builds(memory.register, st.integers(0, 2**64 - 1)),
            ),
            st.integers(0, 2),
            st.sampled_from([0, 0, 0, socket.MSG_TRUNC, socket.MSG_CTRUNC]),
        ),
        max_size=8,
    )
)
def test_any_conversation(said: list[tuple[bytes, int, int]]) -> None:
    """Whatever is said, a record is answered or is malformed; nothing is answered before the greeting."""
    regions = Regions(MOST, PAGE)
    conversation = Conversation(regions, INSTANCE)
    files = [memfd(), memfd()]
    try:
        for place, (record, count, flags) in enumerate([(memory.HELLO, 0, 0), *said]):
            answer, began, _ = conversation.hear(record, files[:count], flags)
            assert answer.startswith(b"lossd" if place == 0 else (b"T", b"F")) or memory.read_end(record)
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
            peer.socket.send(memory.HELLO)

            assert memory.read_greeting(peer.hear()) == INSTANCE

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
        memory.register(PAGE) + b"x",
        memory.end(bytes(16)) + b"x",
        memory.granted(bytes(16)),
        memory.HELLO,
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
        for greeted, record in ((False, memory.HELLO), (True, memory.end(bytes(16))), (True, b"x")):
            with connected(path, greeted=greeted) as peer:
                socket.send_fds(peer.socket, [record], [file])
                assert peer.hear() == b""
        alive(path)

    against(talk)
    assert descriptors() == before
    os.close(file)


@pytest.mark.parametrize("word", [b"GET / HTTP/1.1\r\n\r\n", memory.register(PAGE), b"lossd memory 2"])
def test_no_greeting(word: bytes) -> None:
    """A client whose first word is another is not answered."""

    def talk(path: str) -> None:
        with connected(path, greeted=False) as peer:
            peer.socket.send(word)
            assert peer.hear() == b""
        alive(path)

    against(talk)


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
                socket.send_fds(peer.socket, [memory.register(MOST + PAGE)], [file])
        os.close(file)
        alive(path)

    against(talk)


def test_an_end_of_another_client() -> None:
    """A client cannot end a region that is not its own."""

    def talk(path: str) -> None:
        with connected(path) as owner, connected(path) as other:
            token = owner.give(MOST // 2)
            other.socket.send(memory.end(token))
            assert isinstance(other.hand(MOST, file), tuple)
            owner.socket.send(memory.end(token))
            owner.give(MOST)

    file = memfd(MOST)
    against(talk)
    os.close(file)


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
                    peer.socket.send(memory.end(token))

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
        handover = Handover(Regions(PAGE, PAGE), INSTANCE)
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
        first, second = (Handover(Regions(PAGE, PAGE), INSTANCE) for _ in range(2))
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


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections over the cap are closed at once; a place that comes free is taken."""
    monkeypatch.setattr("lossd_server.handover.MAX_CONNECTIONS", 2)

    def talk(path: str) -> None:
        with connected(path) as first, connected(path):
            with connected(path, greeted=False) as third:
                assert third.hear() == b""
            first.close()
            while True:
                with connected(path, greeted=False) as again:
                    again.socket.send(memory.HELLO)
                    if again.hear():
                        return

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

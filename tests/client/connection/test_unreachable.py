"""Servers that are not there: when a call says so, and in which words."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from tests.client.programs import run
from tests.client.stand_in import StandIn

X = np.full((2, 3), 1.5, np.float32)
LARGE = np.zeros((3, 1 << 20), np.float32)
# Far beyond a test's own limit: whatever ends a call, the deadline does not.
LONG_S = 1e6
# HTTP/2 without gRPC: SETTINGS, and to each request HEADERS with :status 404 and the stream's end.
HEADERS = 1
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
NOT_FOUND = bytes([0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8D])


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """An address where each connection is answered by that function, and held."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                with suppress(OSError):
                    answer(connection)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def not_found(connection: socket.socket) -> None:
    connection.sendall(SETTINGS)
    with connection.makefile("rb") as received:
        received.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        while frame := received.read(9):
            received.read(int.from_bytes(frame[:3]))
            if frame[3] == HEADERS:
                connection.sendall(NOT_FOUND[:5] + frame[5:] + NOT_FOUND[9:])


def failure(address: str, **options: Any) -> lossd.Error:
    with (
        lossd.Client(address, timeout=LONG_S, **options) as client,
        pytest.raises(lossd.Unavailable) as caught,
    ):
        client.entropy(X)
    assert "\n" not in str(caught.value)
    return caught.value


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nothing listens, and nothing else can."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


async def mapped(client: lossd.aio.Client) -> None:
    async for _ in client.map("entropy", [(X,)]):
        pass


CALLS: dict[str, tuple[Callable[[lossd.Client], Any], Callable[[lossd.aio.Client], Any]]] = {
    "small": (lambda client: client.entropy(X), lambda client: client.entropy(X)),
    "large": (lambda client: client.entropy(LARGE), lambda client: client.entropy(LARGE)),
    "stream": (
        lambda client: client.entropy(X, transport="stream"),
        lambda client: client.entropy(X, transport="stream"),
    ),
    "shared_memory": (
        lambda client: client.entropy(X, transport="shared_memory"),
        lambda client: client.entropy(X, transport="shared_memory"),
    ),
    "activation": (lambda client: client.softmax(X), lambda client: client.softmax(X)),
    "map": (lambda client: list(client.map("entropy", [(X,)])), mapped),
    "info": (lambda client: client.info(), lambda client: client.info()),
    "health": (lambda client: client.health(timeout=LONG_S), lambda client: client.health(timeout=LONG_S)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_every_kind_of_call_ends_with_the_connect_timeout(kind: str) -> None:
    """Both clients, with one sentence: the deadline is days away."""
    blocking, awaitable = CALLS[kind]

    async def awaited(address: str) -> None:
        async with lossd.aio.Client(address, timeout=LONG_S, connect_timeout=0.1) as client:
            await awaitable(client)

    with refusing() as address:
        with lossd.Client(address, timeout=LONG_S, connect_timeout=0.1) as client:
            with pytest.raises(lossd.Unavailable) as first:
                blocking(client)
            with pytest.raises(lossd.Unavailable) as again:
                blocking(client)
        with pytest.raises(lossd.Unavailable) as other:
            asyncio.run(awaited(address))

    assert str(first.value) == f"nothing listens at {address}; `lossd serve` starts a server"
    assert str(first.value) == str(again.value) == str(other.value)
    assert (first.value.reason, first.value.metadata) == ("NOTHING_LISTENS", {"address": address})


def test_calls_at_once_end_with_the_connect_timeout() -> None:
    """Of threads and of tasks: each has the time for itself."""

    async def awaited(address: str) -> list[Any]:
        async with lossd.aio.Client(address, timeout=LONG_S, connect_timeout=0.1) as client:
            return await asyncio.gather(*[client.entropy(X) for _ in range(16)], return_exceptions=True)

    with refusing() as address:
        with lossd.Client(address, timeout=LONG_S, connect_timeout=0.1) as client, ThreadPoolExecutor(16) as pool:
            found = [pool.submit(client.entropy, X).exception() for _ in range(16)]
        found += asyncio.run(awaited(address))

    assert {type(one) for one in found} == {lossd.Unavailable}
    assert {str(one) for one in found} == {f"nothing listens at {address}; `lossd serve` starts a server"}


def test_a_forked_child_ends_with_the_connect_timeout() -> None:
    """Its parent has not reached the server either."""
    with refusing() as address:
        done = run(
            """
            import os, sys, lossd
            client = lossd.Client(sys.argv[1], timeout=1e6, connect_timeout=0.1)
            def ask():
                try:
                    client.entropy([1.0])
                except lossd.Unavailable as error:
                    os.write(1, f"{error}\\n".encode())  # in one piece: the child writes beside its parent
            ask()
            child = os.fork()
            ask()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            """,
            address,
        )

    assert done.stdout.splitlines() == [f"nothing listens at {address}; `lossd serve` starts a server"] * 3


@pytest.mark.parametrize("aio", [False, True])
def test_a_first_call_may_take_longer_than_connecting(server: StandIn, aio: bool) -> None:
    """A server that is there has the call's own time: it is asked once more, and waited for."""

    async def awaited() -> float:
        async with lossd.aio.Client(server.address, connect_timeout=0.1) as client:
            return float(await client.entropy(X))

    def blocking() -> float:
        with lossd.Client(server.address, connect_timeout=0.1) as client:
            return float(client.entropy(X))

    server.held = True  # until the first attempt is given up

    assert (asyncio.run(awaited()) if aio else blocking()) == 1.5
    assert server.abandoned.is_set()
    assert server.rpcs == ["Entropy"] * 2


@pytest.mark.parametrize("ask", [lambda c: c.entropy(X), lambda c: c.info(), lambda c: c.health()])
def test_any_answer_tells_that_the_server_is_there(server: StandIn, ask: Callable[[lossd.Client], Any]) -> None:
    """Also a refusal; a failure that was made on the way is none."""
    with lossd.Client(server.address) as client:
        assert not client._lifetime.reached
        ask(client)

        assert client._lifetime.reached


def test_a_name_that_is_not_found_is_said() -> None:
    """The address as it was given, with its port."""
    error = failure("no-such-host.invalid:1", connect_timeout=1.0)

    assert str(error).startswith("the host name of no-such-host.invalid:1 is not found: ")
    assert error.reason == "NAME_NOT_FOUND"


def test_a_socket_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that makes it."""
    monkeypatch.chdir(tmp_path)

    error = failure("unix:x.socket", connect_timeout=0.1)

    assert str(error) == "there is no socket x.socket; `lossd serve --listen unix:x.socket` starts a server"
    assert error.reason == "NO_SOCKET"


def test_a_socket_that_nobody_serves_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its server left it behind."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("x.socket")

    error = failure("unix:x.socket", connect_timeout=0.1)

    assert str(error) == "nothing listens at unix:x.socket; `lossd serve --listen unix:x.socket` starts a server"


SPEAKERS: dict[str, Callable[[socket.socket], object]] = {
    "silent": lambda connection: None,
    "closing": lambda connection: connection.close(),
    "http/1": lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "ssh": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "http/2": not_found,
}


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_a_port_of_another_program_is_said(speaker: str) -> None:
    """It takes connections, and is no gRPC server."""
    with listening(SPEAKERS[speaker]) as address:
        error = failure(address, connect_timeout=1.5)

    assert str(error) == (
        f"{address} can be connected to, but it does not answer as a gRPC server: is it lossd's port, and does it want"
        " TLS (tls=True, or ca=FILE)?"
    )
    assert error.reason == "NOT_A_SERVER"


def test_a_host_that_does_not_answer_is_said() -> None:
    """Its packets are dropped, as a firewall does: here by a full line of connections that nobody accepts."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(full.getsockname())
        error = failure(address := f"127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.3)

    assert str(error) == f"{address} does not answer: no connection in time. Is its host up, its port open?"
    assert error.reason == "NOT_CONNECTED"

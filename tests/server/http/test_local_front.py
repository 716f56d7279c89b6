"""Calls between the HTTP port and a server process: whose are taken, and how they end that nobody waits for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lossd_server.call.contract import Message, Routes, RpcMethod, ServerCall, Status
from lossd_server.errors import DeadlineOver, GoingAway, ServerError
from lossd_server.front.local.call import LocalCall
from lossd_server.front.local.front import LocalFront, LocalSocket
from lossd_server.front.local.words import MOST_HEAD, CallHead
from lossd_server.http import calls
from lossd_server.http.calls import WorkerCalls
from lossd_server.processes.private_folder import PrivateFolder

METADATA = (("x-request-id", "one"), ("some-bin", b"\x00\xff"))


class Handlers:
    """Echoes with what was said of the call; or waits until it is let go, or cancelled."""

    def __init__(self) -> None:
        self.calls: list[ServerCall] = []
        self.closed = 0
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()

    async def echo(self, call: ServerCall) -> Message | Status:
        self.calls.append(call)
        call.on_close(self._close)
        assert await call.next_size() == 3
        body = await call.read()
        assert await call.read() is None
        return (b"<", bytes(body or b""), b">")

    async def refuse(self, call: ServerCall) -> Message | Status:
        return Status(3, "no: é", (("details-bin", b"\x01\x02"), ("wait", "7")))

    async def wait(self, call: ServerCall) -> Message | Status:
        call.on_close(self._close)
        await call.read()
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""

    def _close(self) -> None:
        self.closed += 1

    def routes(self) -> Routes:
        methods = {f"/{one.__name__}": RpcMethod(one) for one in (self.echo, self.refuse, self.wait)}
        return Routes(methods | {"/stream": RpcMethod(self.echo, streams=True)}, RpcMethod(self._unknown))

    async def _unknown(self, call: ServerCall) -> Message | Status:
        return Status(12, "unknown")


@asynccontextmanager
async def listening(pid: int | None = None) -> AsyncIterator[tuple[Handlers, LocalFront, str]]:
    folder, handlers = PrivateFolder(), Handlers()
    front = LocalFront(handlers.routes(), LocalSocket(f"{folder.path}/0", os.getpid() if pid is None else pid))
    await front.start()
    try:
        yield handlers, front, f"{folder.path}/0"
    finally:
        await front.stop(None)
        folder.remove()


def head(method: str, timeout_s: float = 30.0, size: int = 3) -> CallHead:
    return CallHead(method, METADATA, "10.0.0.7:1234", "client-7", timeout_s, size)


def test_a_call_and_its_answer() -> None:
    """Method, metadata, peer, subject, time and message arrive as they were; status, trailers and message come back."""

    async def body() -> None:
        async with listening() as (handlers, _, path):
            port = WorkerCalls([path])
            assert await port.call(head("/echo"), b"abc") == (Status(0), b"<abc>")
            (call,) = handlers.calls
            assert (call.method, call.metadata, call.peer, call.subject) == (
                "/echo",
                METADATA,
                "10.0.0.7:1234",
                "client-7",
            )
            assert call.request_id == "one"
            assert call.deadline < asyncio.get_running_loop().time() + 31
            assert handlers.closed == 1
            assert await port.call(head("/refuse"), b"abc") == (
                Status(3, "no: é", (("details-bin", b"\x01\x02"), ("wait", "7"))), b"",
            )  # fmt: skip
            for method in ("/nothing", "/stream"):
                assert (await port.call(head(method), b"abc"))[0].code == 12

    asyncio.run(body())


def test_another_process_is_not_heard() -> None:
    """Whoever connects and is not the one that has the HTTP port is told nothing, whatever it says."""

    async def body() -> None:
        async with listening(pid=os.getppid()) as (handlers, _, path):
            with pytest.raises(GoingAway):
                await WorkerCalls([path]).call(head("/echo"), b"abc")
            assert handlers.calls == []

    asyncio.run(body())


def test_the_socket_is_this_users_alone() -> None:
    """Its folder lets nobody else in."""

    async def body() -> None:
        async with listening() as (_, _, path):
            assert Path(path).parent.stat().st_mode & 0o077 == 0

    asyncio.run(body())


def test_a_client_that_leaves() -> None:
    """Its call is cancelled where it is handled, and closed."""

    async def body() -> None:
        async with listening() as (handlers, _, path):
            calling = asyncio.ensure_future(WorkerCalls([path]).call(head("/wait"), b"abc"))
            await handlers.begun.wait()
            calling.cancel()
            await handlers.cancelled.wait()
            while not handlers.closed:
                await asyncio.sleep(0)
            assert handlers.closed == 1

    asyncio.run(body())


@pytest.mark.parametrize("ends", ["stop", "cut"])
def test_a_process_that_ends(ends: str) -> None:
    """UNAVAILABLE at once; so it is where none listens. The next in the line is asked where one is not there."""

    async def body() -> None:
        async with listening() as (handlers, front, path):
            calling = asyncio.ensure_future(WorkerCalls([path]).call(head("/wait"), b"abc"))
            await handlers.begun.wait()
            await front.stop(None if ends == "cut" else 0.0)
            with pytest.raises(GoingAway) as lost:
                await calling
            assert lost.value.reason == "WORKER_LOST"
            for sockets in ([path], ["/nowhere/0", path], []):
                with pytest.raises(GoingAway) as nobody:
                    await WorkerCalls(sockets).call(head("/echo"), b"abc")
                assert nobody.value.reason == "NO_WORKER"
        async with listening() as (_, _, path):
            port = WorkerCalls(["/nowhere/0", path])
            assert [(await port.call(head("/echo"), b"abc"))[1] for _ in range(3)] == [b"<abc>"] * 3

    asyncio.run(body())


def test_a_process_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the call's time is over its client is told, whatever the process does."""
    monkeypatch.setattr(calls, "MARGIN_S", 0.0)

    async def body() -> None:
        async with listening() as (handlers, _, path):
            with pytest.raises(DeadlineOver):
                await WorkerCalls([path]).call(head("/wait", timeout_s=0.01), b"abc")
            await handlers.cancelled.wait()

    asyncio.run(body())


@pytest.mark.parametrize(
    "raw", [b"", b"\x00", (MOST_HEAD + 1).to_bytes(4), b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x02{}"]
)
def test_what_is_no_head(raw: bytes) -> None:
    """The connection ends, and no call begins."""

    async def body() -> None:
        async with listening() as (handlers, _, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(raw)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert handlers.calls == []

    asyncio.run(body())


def test_a_message_that_is_cut_off() -> None:
    """It is no message: the handler is told so."""

    async def body() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"ab")
        reader.feed_eof()
        with pytest.raises(ServerError, match="no message"):
            await LocalCall(head("/echo", size=5), reader).read()

    asyncio.run(body())


def test_processes_take_turns() -> None:
    """Each has as many calls as the other."""

    async def body() -> None:
        async with listening() as (first, _, one), listening() as (second, _, other):
            port = WorkerCalls([one, other])
            for _ in range(6):
                await port.call(head("/echo"), b"abc")
            assert (len(first.calls), len(second.calls)) == (3, 3)

    asyncio.run(body())

"""Calls beside admission: what they hold is bounded, in number, in size and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import pytest

from lossd_server.call.contract import Message, Routes, Status
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from tests.server.edge import EdgeBackend
from tests.server.front.http2 import wire
from tests.server.front.http2.listening import RawClient
from tests.server.memory_front import MemoryCall, handled, reasons
from tests.server.running import serving_at

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
INFO = "/lossd.v1.LossService/GetServerInfo"
# Of each method a message that it answers.
QUESTIONS = {CHECK: b"", WATCH: b"", REFLECTION: b"\x3a\x01*", INFO: b""}
STREAMS = (WATCH, REFLECTION)


async def stalled() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


class Stalled(MemoryCall):
    """Its client sends nothing more after its messages, and takes no answer."""

    async def next_size(self) -> int | None:
        size = await super().next_size()
        return await stalled() if size is None else size

    async def write(self, message: Message) -> None:
        await super().write(message)
        await stalled()


def with_routes(body: Callable[[Routes, Server], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        server = Server(Settings(listen=("unix:unused",), shared_memory_socket="off", **settings), EdgeBackend())
        try:
            await body(server.routes, server)
        finally:
            await server.stop(1.0, linger_s=0.0)

    asyncio.run(asyncio.wait_for(run(), 60.0))


@pytest.mark.parametrize("path", [CHECK, WATCH, REFLECTION])
def test_a_client_that_sends_nothing(path: str) -> None:
    """It is told that its time is over."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, Stalled(path))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert reasons(answer) == ["BODY_TIMEOUT"]

    with_routes(body, max_body_s=0.01)


@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_reads_nothing(path: str) -> None:
    """So is one that does not take what it has asked for."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, Stalled(path, [QUESTIONS[path]]))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert reasons(answer) == ["ANSWER_NOT_READ"]

    with_routes(body, max_body_s=0.01)


@pytest.mark.parametrize("path", [CHECK, WATCH, REFLECTION])
def test_a_message_that_is_too_large_is_not_let_in(path: str) -> None:
    """Where the front tells its size first, nothing more of it is read."""

    class Large(MemoryCall):
        async def next_size(self) -> int | None:
            return 4097

        async def read(self) -> bytes | None:
            pytest.fail("it was read")

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, Large(path))
        assert isinstance(answer, Status)

        assert reasons(answer) == ["MESSAGE_TOO_LARGE"]

    with_routes(body)


@pytest.mark.parametrize("path", QUESTIONS)
def test_places_are_shared_among_connections(path: str) -> None:
    """One connection's calls do not keep others out: its newest make room, and say so."""

    async def body(routes: Routes, _: Server) -> None:
        method = routes.methods[path].handler
        # They are under way until they are closed, which these are not: GetServerInfo's as an answer that is not read.
        greedy = [asyncio.ensure_future(method(Stalled(path, connection="greedy"))) for _ in range(300)]
        told = await asyncio.gather(*greedy[256:])
        assert [reasons(one) for one in told if isinstance(one, Status)] == [["OVERLOADED"]] * 44

        other = MemoryCall(path, [QUESTIONS[path]], connection="other")
        asked = asyncio.ensure_future(handled(routes, other))
        while not (other.sent or asked.done()):
            await asyncio.sleep(0)
        answer = other.sent[0] if other.sent else await asked
        assert isinstance(answer, bytes)
        for task in (*greedy, asked):
            task.cancel()
        await asyncio.gather(*greedy, asked, return_exceptions=True)

    with_routes(body, max_connections=256)


@pytest.mark.parametrize("path", STREAMS)
def test_answers_that_are_not_read_on_a_socket(path: str) -> None:
    """A client whose windows are closed hears the end of its call in time. Core offers no way to tell it."""

    async def run() -> None:
        async with serving_at(EdgeBackend(), front="http2", max_body_s=0.05) as (_, _, address):
            client = await RawClient.connect(address)
            await client.send(wire.PREFACE + wire.settings({wire.INITIAL_WINDOW: 0}) + wire.SETTINGS_ACK)
            opened = wire.headers(1, wire.request(path.encode()), wire.END_HEADERS)
            await client.send(opened + wire.data(1, wire.message(QUESTIONS[path])))
            while not (wire.ended(bytes(client.received)) or client.over):
                await client.receive()
            client.close()
            answer = wire.answers(client.frames)[1]

            assert answer.messages == []
            assert answer.reset is not None or answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]

    asyncio.run(asyncio.wait_for(run(), 60.0))

"""The server's timers: whatever fails in one turn of theirs, there is a next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossd.command_line.token_line import token_line
from lossd_server import server as server_module
from lossd_server.call.contract import Status
from lossd_server.config.settings import Settings
from lossd_server.front.http2 import front
from lossd_server.front.http2.protocol import Http2Protocol
from lossd_server.processes import malloc
from lossd_server.server import Server
from tests.server.edge import EdgeBackend
from tests.server.memory_front import MemoryCall, handled
from tests.server.messages import cross_entropy
from tests.server.running import another, held, serving_at
from tests.waiting import until_awaited

METHOD = "/lossd.v1.LossService/CrossEntropy"


class PoorBackend(EdgeBackend):
    """Finds no memory for giving memory back."""

    def trim(self) -> None:
        raise MemoryError

    age = trim


def test_a_look_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that change afterwards are seen: a look that found no memory was not the last."""
    monkeypatch.setattr(server_module, "SWEEP_S", 0.001)
    monkeypatch.setattr(malloc, "IDLE_S", 0.0)
    path = tmp_path / "tokens"
    path.write_text(token_line("a", "before"))
    failed: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        settings = Settings(listen=(f"unix:{tmp_path}/socket",), shared_memory_socket="off", tokens=str(path))
        server = Server(settings, PoorBackend())
        await server.start()
        try:
            await until_awaited(lambda: len(failed) > 0, "a look fails")
            path.write_text(token_line("a", "afterwards"))

            async def taken() -> bool:
                call = MemoryCall(
                    METHOD, [cross_entropy().SerializeToString()], (("authorization", "Bearer afterwards"),)
                )
                answer = await handled(server.routes, call)
                return not isinstance(answer, Status) or answer.code == 0

            await until_awaited(taken, "the new token is taken")
        finally:
            await server.stop(1.0, linger_s=0.0)

    asyncio.run(asyncio.wait_for(body(), 120.0))

    assert isinstance(failed[0]["exception"], MemoryError)


def test_a_look_at_connections_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front looks at its connections again."""
    monkeypatch.setattr(front, "SWEEP_S", 0.001)
    looks = 0
    expire: Callable[[Http2Protocol, float], None] = Http2Protocol.expire

    def short(connection: Http2Protocol, now_s: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise MemoryError
        expire(connection, now_s)

    monkeypatch.setattr(Http2Protocol, "expire", short)

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        async with serving_at(EdgeBackend(), front="http2") as (_, channel, address), another(address) as other:
            assert await held(channel) == await held(other)
            await until_awaited(lambda: looks > 3, "it looks again")

    asyncio.run(asyncio.wait_for(body(), 120.0))

    assert looks > 3

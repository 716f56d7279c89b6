"""Limits of callers: by name, whatever token or connection they come with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from lossd.command_line.token_line import token_line
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.call.contract import Message, Status
from lossd_server.call.identity import Identity
from lossd_server.config.settings import Settings
from lossd_server.errors import Overloaded
from lossd_server.server import Server
from tests.server.edge import EdgeBackend
from tests.server.memory_front import MemoryCall, handled, reasons
from tests.server.messages import cross_entropy
from tests.waiting import until_awaited

SERVICE = "/lossd.v1.LossService/"
KINDS = {"max_inflight_requests": SERVICE + "CrossEntropy", "max_streams": SERVICE + "Stream"}


class SilentCall(MemoryCall):
    """Its client sends nothing until `ends`."""

    def __init__(self, method: str, token: str) -> None:
        super().__init__(method, metadata=(("authorization", f"Bearer {token}"),))
        self.ends = asyncio.Event()
        self.asked = False

    async def next_size(self) -> int | None:
        self.asked = True
        await self.ends.wait()
        return None


class HalfSentCall(SilentCall):
    """Its message has so many bytes, which do not come before `ends`."""

    def __init__(self, token: str, size: int) -> None:
        super().__init__(KINDS["max_inflight_requests"], token)
        self._size = size

    async def next_size(self) -> int | None:
        return self._size

    async def read(self) -> bytes | None:
        self.asked = True
        await self.ends.wait()
        return None


@pytest.mark.parametrize("limit", KINDS)
def test_a_caller_that_has_as_many_as_it_may(limit: str, tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with a time to retry, by another token of its too; others go on, and it does afterwards."""
    path = tmp_path / "tokens"
    lines = f"{token_line('limited', 'a')} {limit}=1", token_line("limited", "b"), token_line("another", "c")
    path.write_text("\n".join(lines))
    method = KINDS[limit]

    async def body() -> None:
        server = Server(Settings(listen=("unix:unused",), shared_memory_socket="off", tokens=str(path)), EdgeBackend())
        silent = SilentCall(method, "a")

        async def called(token: str) -> Message | Status:
            message = [] if limit == "max_streams" else [cross_entropy().SerializeToString()]
            return await handled(server.routes, MemoryCall(method, message, (("authorization", f"Bearer {token}"),)))

        first = asyncio.create_task(handled(server.routes, silent))
        await until_awaited(lambda: silent.asked, "the first is under way")
        refused = await called("b")
        assert isinstance(refused, Status)
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert reasons(refused) == ["CALLER_LIMIT"]
        assert "grpc-retry-pushback-ms" in dict(refused.trailers)
        for token in ("c", "b"):
            answer = await called(token)
            assert not isinstance(answer, Status) or answer.code == 0
            silent.ends.set()
            await first
        await server.stop(1.0, linger_s=0.0)

    asyncio.run(asyncio.wait_for(body(), 60.0))


@pytest.mark.parametrize("limit", KINDS)
def test_where_nobody_is_asked_a_host_is_a_caller(limit: str) -> None:
    """It has what everybody may have, on all of its connections together; another host has as much."""
    address = ("unix:unused",)
    settings = Settings(listen=address, shared_memory_socket="off", max_caller_requests=1, max_caller_streams=1)
    method = KINDS[limit]

    async def body() -> None:
        server = Server(settings, EdgeBackend())
        silent = SilentCall(method, "")
        silent.peer = "10.0.0.1:40001"

        async def called(peer: str) -> Message | Status:
            message = [] if limit == "max_streams" else [cross_entropy().SerializeToString()]
            call = MemoryCall(method, message)
            call.peer = peer
            return await handled(server.routes, call)

        first = asyncio.create_task(handled(server.routes, silent))
        await until_awaited(lambda: silent.asked, "the first is under way")
        refused = await called("10.0.0.1:40002")
        assert isinstance(refused, Status)
        assert "10.0.0.1 has 1" in refused.message
        answer = await called("10.0.0.2:40001")
        assert not isinstance(answer, Status) or answer.code == 0
        silent.ends.set()
        await first
        await server.stop(1.0, linger_s=0.0)
        assert not len(server._admission.callers)

    asyncio.run(asyncio.wait_for(body(), 60.0))


def test_bytes_of_a_caller_are_bounded(tmp_path: Path) -> None:
    """A call that is read holds what its message will have; another of the caller is told to come back."""
    path = tmp_path / "tokens"
    path.write_text(f"{token_line('limited', 'a')} max_inflight_bytes=250000")

    async def body() -> None:
        server = Server(Settings(listen=("unix:unused",), shared_memory_socket="off", tokens=str(path)), EdgeBackend())
        reading = HalfSentCall("a", 100_000)
        first = asyncio.create_task(handled(server.routes, reading))
        await until_awaited(lambda: reading.asked, "the first is let in")
        refused = await handled(server.routes, HalfSentCall("a", 60_000))
        reading.ends.set()
        await first
        await server.stop(1.0, linger_s=0.0)

        assert isinstance(refused, Status)
        assert reasons(refused) == ["CALLER_LIMIT"]
        assert "max_inflight_bytes is 250000" in refused.message
        assert not len(server._admission.callers)

    asyncio.run(asyncio.wait_for(body(), 60.0))


def test_nothing_is_left_of_a_caller_that_is_gone() -> None:
    """Whatever its calls end with, what was counted is given back."""
    callers, caller = CallerHoldings(), Identity("a", max_inflight_requests=2)
    for streams in (False, False, True):
        callers.of(caller).enter(streams)
    with pytest.raises(Overloaded):
        callers.of(caller).enter(streams=False)
    for streams in (False, True, False):
        callers.leave(callers.of(caller), streams)

    assert not len(callers)

"""What is above the contract, driven by a front without a network: every method has one way in and one way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from lossd.v1 import service_pb2
from lossd_server.call.contract import OK, Message, Routes, Status
from lossd_server.config.settings import Settings
from lossd_server.inference.protocol import INFERENCE_SERVICE, POOL
from lossd_server.inference.service import NOT_OFFERED
from lossd_server.server import Server
from tests.server.edge import SECRET, EdgeBackend
from tests.server.memory_front import MemoryCall, handled, reasons
from tests.server.messages import cross_entropy

SERVICE = "/lossd.v1.LossService/"
HEALTH = "/grpc.health.v1.Health/"
INFERENCE = f"/{INFERENCE_SERVICE}/"
REFLECTION, REFLECTION_V1ALPHA = (
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)
LOSSES = sorted(
    SERVICE + rpc
    for rpc in service_pb2.DESCRIPTOR.services_by_name["LossService"].methods_by_name
    if rpc not in ("Stream", "GetServerInfo")
)
EVERY = [*LOSSES, SERVICE + "Stream", SERVICE + "GetServerInfo", HEALTH + "Check", HEALTH + "Watch"]
EVERY += [REFLECTION, REFLECTION_V1ALPHA]
INFERENCE_SMALL = [
    INFERENCE + rpc
    for rpc in POOL.FindServiceByName(INFERENCE_SERVICE).methods_by_name
    if rpc not in ("ModelInfer", "ModelStreamInfer")
]
INFERENCE_NOT_OFFERED = [INFERENCE + rpc for rpc in NOT_OFFERED]
EVERY += [*INFERENCE_SMALL, *INFERENCE_NOT_OFFERED, INFERENCE + "ModelInfer", INFERENCE + "ModelStreamInfer"]
# Of a stream of the protocol a message that is none fails alone: tests/server/inference.
READING = [path for path in EVERY if path not in (SERVICE + "GetServerInfo", INFERENCE + "ModelStreamInfer")]
READING = [path for path in READING if path not in INFERENCE_NOT_OFFERED]
MALFORMED = b"\x0a\xff"  # a field that is longer than the message


def with_routes(body: Callable[[Routes, Server], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        server = Server(Settings(listen=("unix:unused",), shared_memory_socket="off", **settings), EdgeBackend())
        try:
            await body(server.routes, server)
        finally:
            server.service.expire(0.0)
            await server.stop(1.0, linger_s=0.0)

    asyncio.run(asyncio.wait_for(run(), 60.0))


def test_the_methods_are_known() -> None:
    """The services' methods, and no others."""

    async def body(routes: Routes, _: Server) -> None:
        assert sorted(routes.methods) == sorted(EVERY)

    with_routes(body)


def test_a_call_is_answered_without_a_network() -> None:
    """One message in, one out: what rpc knows of a call is the contract."""

    async def body(routes: Routes, _: Server) -> None:
        message = cross_entropy()
        answer = await handled(routes, MemoryCall(SERVICE + "CrossEntropy", [message.SerializeToString()]))
        assert isinstance(answer, bytes)

        assert service_pb2.CrossEntropyResponse.FromString(answer).summary.count == 4

    with_routes(body)


@pytest.mark.parametrize("path", READING)
def test_bytes_that_are_no_message(path: str) -> None:
    """INVALID_ARGUMENT with exactly one ErrorInfo, whichever method, health and reflection too."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, MemoryCall(path, [MALFORMED]))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert reasons(answer) == ["MALFORMED_MESSAGE"]

    with_routes(body)


@pytest.mark.parametrize(
    "path", [*LOSSES, HEALTH + "Check", HEALTH + "Watch", *INFERENCE_SMALL, INFERENCE + "ModelInfer"]
)
def test_no_message_at_all(path: str) -> None:
    """The same for a call whose client sends nothing and closes."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, MemoryCall(path))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert reasons(answer) == ["NO_MESSAGE"]

    with_routes(body)


@pytest.mark.parametrize("path", [HEALTH + "Check", HEALTH + "Watch", REFLECTION, REFLECTION_V1ALPHA, *INFERENCE_SMALL])
def test_services_beside_the_losses_take_little(path: str) -> None:
    """Their messages stand outside admission: over 4 KiB they are refused."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, MemoryCall(path, [b"\x0a\x82\x20" + b"n" * 4098]))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert reasons(answer) == ["MESSAGE_TOO_LARGE"]

    with_routes(body)


@pytest.mark.parametrize("path", ["/lossd.v1.LossService/Nothing", "/nobody/At", "", "/"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    """UNIMPLEMENTED, with the details that every error has."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, MemoryCall(path))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.UNIMPLEMENTED.value[0]
        assert reasons(answer) == ["UNKNOWN_METHOD"]

    with_routes(body)


def test_an_unknown_service_of_health() -> None:
    """NOT_FOUND, as grpc.health.v1 has it, with our details."""

    async def body(routes: Routes, _: Server) -> None:
        answer = await handled(routes, MemoryCall(HEALTH + "Check", [b"\x0a\x06nobody"]))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.NOT_FOUND.value[0]
        assert reasons(answer) == ["UNKNOWN_SERVICE"]

    with_routes(body)


def test_a_bug_of_ours_is_masked() -> None:
    """INTERNAL, a request id, and nothing of the exception."""

    async def body(routes: Routes, _: Server) -> None:
        from tests.server.edge import POISON

        message = cross_entropy(ignore_index=POISON)
        answer = await handled(routes, MemoryCall(SERVICE + "CrossEntropy", [message.SerializeToString()]))
        assert isinstance(answer, Status)

        assert answer.code == grpc.StatusCode.INTERNAL.value[0]
        assert reasons(answer) == ["INTERNAL"]
        assert SECRET not in answer.message

    with_routes(body)


def test_a_stream_ends_with_a_status() -> None:
    """A stream whose client sends nothing more is over: OK, and what was charged is given back."""

    async def body(routes: Routes, _: Server) -> None:
        opened = service_pb2.StreamRequest(open=service_pb2.Open(evaluation_id=1, cross_entropy=cross_entropy()))
        call = MemoryCall(SERVICE + "Stream", [opened.SerializeToString()])
        answer = await handled(routes, call)

        assert answer is OK
        (result,) = (service_pb2.StreamResponse.FromString(one) for one in call.sent)
        assert result.result.cross_entropy.summary.count == 4

    with_routes(body)


def test_a_watcher_who_does_not_read_holds_nobody_up() -> None:
    """The end of serving is told to all others, and waits for none."""

    async def body(routes: Routes, server: Server) -> None:
        held = asyncio.Event()

        class Unread(MemoryCall):
            async def write(self, message: Message) -> None:
                await held.wait()

        unread, read = (kind(HEALTH + "Watch", [b""]) for kind in (Unread, MemoryCall))
        watching = [asyncio.ensure_future(handled(routes, call)) for call in (unread, read)]
        while len(read.sent) < 1:
            await asyncio.sleep(0)
        await server.health.stop()
        while len(read.sent) < 2:
            await asyncio.sleep(0)
        for one in watching:
            one.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

        assert read.sent == [b"\x08\x01", b"\x08\x02"]

    with_routes(body)

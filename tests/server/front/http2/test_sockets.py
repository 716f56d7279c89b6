"""The front on real sockets: every rule once more, gRPC's own clients, curl, and many connections."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from lossd_server.call.contract import ServerCall
from tests.server.edge import EdgeBackend
from tests.server.front.http2 import rules_of_frames, rules_of_messages, rules_of_types, wire
from tests.server.front.http2.driven import outcome
from tests.server.front.http2.listening import KINDS, RawClient, listening
from tests.server.front.http2.rules import Rule
from tests.server.running import serving
from tests.waiting import until_awaited

RULES = [*rules_of_frames.RULES, *rules_of_types.RULES, *rules_of_messages.RULES]
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
MOST_TURNS = 60  # of the server's loop, in which a call that waits for nothing has long ended
LARGE = bytes(range(256)) * (1 << 16)  # 16 MiB

kinds = pytest.mark.parametrize("kind", KINDS)


async def became(address: str, rule: Rule) -> str:
    """What becomes of a connection on which a rule's bytes are sent."""
    client = await RawClient.connect(address)
    await client.send(rule.begun)
    for part in rule.sent:
        await client.send(part)
        if rule.begun.startswith(wire.HANDSHAKE):
            await client.turn()
            await client.turn()
    for _ in range(MOST_TURNS):
        if client.over or (client.received and outcome(client.frames) == rule.outcome):
            break
        await client.turn()
    client.close()
    return outcome(client.frames)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@kinds
def test_rules(kind: str, loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    """What holds in memory holds on a socket, one connection after the other, in either loop."""

    async def run() -> None:
        async with listening(tmp_path) as (_, addresses):
            found = {str(rule): await became(addresses[kind], rule) for rule in RULES}

            assert found == {str(rule): rule.outcome for rule in RULES}

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def unary(channel: Any, name: str = "Echo") -> Any:
    return channel.unary_unary(f"/test/{name}")


def streamed(channel: Any) -> Any:
    return channel.stream_stream("/test/EchoAll")


@kinds
def test_asynchronous_client(kind: str, tmp_path: Path) -> None:
    """grpc.aio: unary and streamed, small and of 16 MiB both ways, many at once, and a method that is not there."""

    async def run() -> None:
        async with (
            listening(tmp_path) as (_, addresses),
            grpc.aio.insecure_channel(addresses[kind], options=UNLIMITED) as channel,
        ):
            assert await unary(channel)(b"hello") == b"hello"
            assert await unary(channel)(b"") == b""
            assert await unary(channel)(LARGE) == LARGE
            assert await asyncio.gather(*(unary(channel)(b"%d" % one) for one in range(300))) == [
                b"%d" % one for one in range(300)
            ]
            sent = [b"one", b"", LARGE[: 1 << 20], b"four"]
            call = streamed(channel)(iter(sent))
            assert [body async for body in call] == sent
            assert await call.code() == grpc.StatusCode.OK
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unary(channel, "Nothing")(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(run())


@kinds
def test_blocking_client(kind: str, tmp_path: Path) -> None:
    """grpcio: the same, from a thread."""

    def calls(address: str) -> None:
        with grpc.insecure_channel(address, options=UNLIMITED) as channel:
            assert unary(channel)(b"hello") == b"hello"
            assert unary(channel)(LARGE) == LARGE
            assert list(streamed(channel)(iter([b"one", b"two"]))) == [b"one", b"two"]
            answers = [unary(channel).future(b"%d" % one) for one in range(100)]
            assert [answer.result() for answer in answers] == [b"%d" % one for one in range(100)]
            answer, call = unary(channel).with_call(b"x", metadata=[("key-bin", b"\0\xff,"), ("key", "a, b")])
            assert (answer, call.code()) == (b"x", grpc.StatusCode.OK)
            with pytest.raises(grpc.RpcError):
                unary(channel)(b"x", compression=grpc.Compression.Gzip)

    async def run() -> None:
        async with listening(tmp_path) as (_, addresses):
            await asyncio.to_thread(calls, addresses[kind])

    asyncio.run(run())


class Held:
    """Calls that wait until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.cancelled = 0

    async def __call__(self, call: ServerCall) -> bytes:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return bytes(await call.read() or b"")


@kinds
def test_cancellation(kind: str, tmp_path: Path) -> None:
    """A client that cancels, whose time is over, or that is gone, cancels the handler."""

    async def run() -> None:
        held = Held()
        async with listening(tmp_path, {"Held": held}) as (_, addresses):
            async with grpc.aio.insecure_channel(addresses[kind]) as channel:
                call = unary(channel, "Held")(b"x")
                await until_awaited(lambda: held.begun == 1, "the call begins")
                call.cancel()
                await until_awaited(lambda: held.cancelled == 1, "its handler is cancelled")

                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await unary(channel, "Held")(b"x", timeout=0.1)
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                await until_awaited(lambda: held.cancelled == held.begun, "its handler is cancelled too")

                unfinished = asyncio.ensure_future(unary(channel, "Held")(b"x"))
                await until_awaited(lambda: held.cancelled < held.begun, "the last call begins")
                unfinished.cancel()
            await until_awaited(lambda: held.cancelled == held.begun, "the last call's handler is cancelled")

    asyncio.run(run())


@kinds
def test_drains(kind: str, tmp_path: Path) -> None:
    """A front that stops answers what is under way, takes nothing new, and closes what is left."""

    async def run() -> None:
        held = Held()
        async with listening(tmp_path, {"Held": held}) as (front, addresses):
            idle = await RawClient.connect(addresses[kind])
            await idle.send(wire.HANDSHAKE)
            async with grpc.aio.insecure_channel(addresses[kind]) as channel:
                calls = [asyncio.ensure_future(unary(channel, "Held")(b"%d" % one)) for one in range(5)]
                await until_awaited(lambda: held.begun == 5, "the calls begin")
                stopping = asyncio.ensure_future(front.stop(60.0))
                while sum(one.kind == wire.GOAWAY for one in idle.frames) < 2:  # announced, then final
                    await idle.turn()

                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await unary(channel)(b"late")
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
                held.go.set()
                assert await asyncio.gather(*calls) == [b"%d" % one for one in range(5)]
            await stopping
            while not idle.over:
                await idle.turn()
            idle.close()
            announced, final = (one.payload[:4] for one in idle.frames if one.kind == wire.GOAWAY)
            assert (announced, final) == (wire.MOST_WINDOW.to_bytes(4, "big"), bytes(4))

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("more, status", [((), 405), (("--head",), 405), (("--data-binary", "@large"), 415)])
@kinds
def test_curl(kind: str, more: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """curl is told what this is, without waiting for what it will not be told; a large upload is cut short."""

    async def run() -> None:
        async with listening(tmp_path) as (_, addresses):
            (tmp_path / "large").write_bytes(LARGE[: 1 << 20])
            where = addresses[kind]
            place = ["--unix-socket", where.removeprefix("unix:"), "http://lossd/"] if kind == "unix" else [where]
            curl = await asyncio.create_subprocess_exec(
                "curl", "--silent", "--http2-prior-knowledge", "--write-out", "\n%{http_code} %{http_version}",
                *(one.replace("@", f"@{tmp_path}/") for one in more), *place, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await curl.communicate()

            assert output.decode().splitlines()[-1] == f"{status} 2"
            assert b"gRPC server" in output or "--head" in more
            assert curl.returncode == 0

    asyncio.run(run())


def health(channel: Any) -> Any:
    return HealthStub(channel)


def reflection(channel: Any) -> Any:
    return ServerReflectionStub(channel)


def test_health_and_reflection() -> None:
    """The server's own services are reached by this front: health's stream, and reflection."""

    async def run() -> None:
        async with serving(EdgeBackend(), front="http2") as (server, channel):
            watch = health(channel).Watch(HealthCheckRequest(service="lossd.v1.LossService"))
            first = await watch.read()
            question = ServerReflectionRequest(list_services="")
            listed = reflection(channel).ServerReflectionInfo(iter([question]))
            names = [one.name for one in (await listed.read()).list_services_response.service]
            stopping = asyncio.ensure_future(server.stop(10.0))
            second = await watch.read()
            await stopping

            assert (first.status, second.status) == (HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING)
            assert "lossd.v1.LossService" in names

    asyncio.run(run())

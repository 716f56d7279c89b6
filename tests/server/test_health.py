"""grpc.health.v1 and reflection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from lossd_server.config.settings import Settings
from lossd_server.server import Server
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import finished, held, refused, serving, stub

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


def health(channel: Any) -> Any:
    return HealthStub(channel)


@pytest.mark.parametrize("name", ["", "lossd.v1.LossService"])
def test_check(name: str) -> None:
    """The server and its service are SERVING."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            answer = await health(channel).Check(HealthCheckRequest(service=name))

            assert answer.status == SERVING

    asyncio.run(run())


def test_check_under_load() -> None:
    """Health and GetServerInfo are answered while the server is full."""

    async def run() -> None:
        backend = EdgeBackend()
        async with serving(backend, max_inflight_requests=1) as (_, channel):
            backend.gate.clear()
            first = finished(stub(channel).CrossEntropy(cross_entropy()))
            await asyncio.to_thread(backend.until_entered)
            error = await refused(stub(channel).CrossEntropy(cross_entropy()))
            answer = await health(channel).Check(HealthCheckRequest())
            _, requests = await held(channel)
            backend.gate.set()

            assert requests == 1
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert answer.status == SERVING
            assert (await first).summary.count == 4

    asyncio.run(run())


def test_watch() -> None:
    """A watcher sees SERVING, and NOT_SERVING as the server begins to stop."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (server, channel):
            watch = health(channel).Watch(HealthCheckRequest(service="lossd.v1.LossService"))
            first = await watch.read()
            stopping = asyncio.ensure_future(server.stop(10.0))
            second = await watch.read()
            await stopping

            assert (first.status, second.status) == (SERVING, NOT_SERVING)

    asyncio.run(run())


def test_unknown_service() -> None:
    """A service that is not there is NOT_FOUND."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            error = await refused(health(channel).Check(HealthCheckRequest(service="nobody")))

            assert error.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


async def reflected(channel: grpc.aio.Channel, question: ServerReflectionRequest, version: str = "v1alpha") -> Any:
    """The answer to one question."""
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    call: Any = ask(iter([question]))
    return await call.read()


async def services(channel: grpc.aio.Channel, version: str = "v1alpha") -> list[str]:
    """What reflection lists."""
    answer = await reflected(channel, ServerReflectionRequest(list_services=""), version)
    return [one.name for one in answer.list_services_response.service]


def test_reflection_describes_what_it_lists() -> None:
    """Each service is found in the files of both versions' answers, and so is what an error's details are made of."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            for version in ("v1", "v1alpha"):
                for symbol in (*await services(channel, version), "google.rpc.ErrorInfo"):
                    question = ServerReflectionRequest(file_containing_symbol=symbol)
                    answer = await reflected(channel, question, version)
                    names = []
                    for serialized in answer.file_descriptor_response.file_descriptor_proto:
                        file = FileDescriptorProto.FromString(serialized)
                        names += [f"{file.package}.{service.name}" for service in file.service]
                        names += [f"{file.package}.{message.name}" for message in file.message_type]

                    assert symbol in names

    asyncio.run(run())


def test_reflection() -> None:
    """On a local address reflection lists the services, and can be turned off."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            for version in ("v1", "v1alpha"):
                listed = await services(channel, version)
                assert {"lossd.v1.LossService", f"grpc.reflection.{version}.ServerReflection"} <= set(listed)
        async with serving(EdgeBackend(), reflection="off") as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await services(channel)
            # INTERNAL is the aio client's own word for a write that the call's end caught.
            assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)

    asyncio.run(run())


@pytest.mark.parametrize(
    "listen, reflection, there",
    [
        ("127.0.0.1:0", "auto", True),
        ("0.0.0.0:0", "auto", False),
        ("0.0.0.0:0", "on", True),
        ("127.0.0.1:0", "off", False),
    ],
)
def test_reflection_is_for_this_host_unless_it_is_asked_for(listen: str, reflection: str, there: bool) -> None:
    """On an address that others can reach there is no such method, nor is there channelz anywhere."""
    settings = Settings(listen=(listen,), insecure=True, shared_memory_socket="off", reflection=reflection)

    async def run() -> list[str]:
        return list(Server(settings, EdgeBackend()).routes.methods)

    methods = asyncio.run(run())
    assert any("reflection" in path.lower() for path in methods) == there
    assert not any("channelz" in path.lower() for path in methods)

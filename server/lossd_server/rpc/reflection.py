"""Reflection service: grpc.reflection.v1 and v1alpha, which have the same messages, by grpcio-reflection's servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd.v1 import service_pb2
from lossd_server.call.contract import ServerCall
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.small_calls import SmallCalls

NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
# What is described: every service of the port, and what the details of an error are, so that tools can show them.
FILES: Sequence[Any] = (
    service_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
    error_details_pb2.DESCRIPTOR,
)
# Streams at once. A tool has one, and each may hold an answer of some ten KiB.
MOST_STREAMS = 256


class Reflection:
    """Tells which services there are, and what their messages look like."""

    def __init__(self, services: Sequence[str], timeout_s: float, files: Sequence[Any] = ()) -> None:
        """timeout_s: for a question to arrive, and for an answer to be taken. files: of services beside ours."""
        self._calls = SmallCalls(MOST_STREAMS, "reflection streams", timeout_s)
        self._servicer = reflection.aio.ReflectionServicer((*services, *NAMES), pool=_described((*FILES, *files)))

    def add_to(self, dispatcher: Dispatcher) -> None:
        for name in NAMES:
            dispatcher.add(name, "ServerReflectionInfo", self._calls.bounded(self._answer), streams=True)

    async def _answer(self, call: ServerCall) -> None:
        servicer: Any = self._servicer  # its stubs take the method for a coroutine
        async for response in servicer.ServerReflectionInfo(self._requests(call), None):
            await self._calls.write(call, response)

    async def _requests(self, call: ServerCall) -> AsyncIterator[Any]:
        while (question := await self._calls.read_next(call, reflection_pb2.ServerReflectionRequest)) is not None:
            yield question


def _described(files: Sequence[Any]) -> DescriptorPool:
    """A pool with these files, what they import, and the file of reflection's v1, which grpcio-reflection lacks."""
    pool = DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in added:
            added.add(file.name)
            for imported in file.dependencies:
                add(imported)
            pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    pool.Add(_in_v1(reflection_pb2.DESCRIPTOR))
    return pool


def _in_v1(alpha: Any) -> FileDescriptorProto:
    """The file of grpc.reflection.v1: that of v1alpha under another name."""
    file = FileDescriptorProto()
    alpha.CopyToProto(file)
    text = text_format.MessageToString(file)
    for alpha_name, name in (
        ("grpc.reflection.v1alpha", "grpc.reflection.v1"),
        ("reflection/v1alpha/", "reflection/v1/"),
    ):
        text = text.replace(alpha_name, name)
    return text_format.Parse(text, FileDescriptorProto())

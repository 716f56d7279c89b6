"""Reflection service: grpc.reflection.v1 and v1alpha, which have the same messages, by grpcio-reflection's servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd_server.call.contract import ServerCall
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.small_calls import SmallCalls

NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
# Streams at once. A tool has one, and each may hold an answer of some ten KiB.
MOST_STREAMS = 256


class Reflection:
    """Tells which services there are, and what their messages look like."""

    def __init__(self, services: Sequence[str], timeout_s: float, pools: Sequence[DescriptorPool] = ()) -> None:
        """timeout_s: for a question to arrive, and for an answer to be taken. pools: where files are looked for before
        protobuf's default pool."""
        self._calls = SmallCalls(MOST_STREAMS, "reflection streams", timeout_s)
        found: Any = SeveralPools((*pools, descriptor_pool.Default()))
        self._servicer = reflection.aio.ReflectionServicer((*services, *NAMES), found)

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


class SeveralPools:
    """What the servicer asks a descriptor pool for, of the first of several that has it. Raises KeyError as it does."""

    def __init__(self, pools: Sequence[DescriptorPool]) -> None:
        self._pools = pools

    def FindFileByName(self, name: str) -> Any:
        return self._first(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, name: str) -> Any:
        return self._first(lambda pool: pool.FindFileContainingSymbol(name))

    def FindMessageTypeByName(self, name: str) -> Any:
        return self._first(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:
        return self._first(lambda pool: pool.FindExtensionByNumber(message, number))

    def FindAllExtensions(self, message: Any) -> Any:
        return self._first(lambda pool: pool.FindAllExtensions(message))

    def _first(self, find: Callable[[DescriptorPool], Any]) -> Any:
        missing = KeyError()
        for pool in self._pools:
            try:
                return find(pool)
            except KeyError as error:
                missing = error
        raise missing

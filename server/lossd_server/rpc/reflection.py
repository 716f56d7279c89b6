"""Reflection service: grpc.reflection.v1 and v1alpha, which have the same messages, by grpcio-reflection's servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd_server.call.contract import ServerCall
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.small_calls import SmallCalls

NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
# Streams at once. A tool has one, and each may hold an answer of some ten KiB.
MOST_STREAMS = 256


class Reflection:
    """Tells which services there are, and what their messages look like."""

    def __init__(self, services: Sequence[str], timeout_s: float) -> None:
        """timeout_s: for a question to arrive, and for an answer to be taken."""
        self._calls = SmallCalls(MOST_STREAMS, "reflection streams", timeout_s)
        self._servicer = reflection.aio.ReflectionServicer((*services, *NAMES))

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

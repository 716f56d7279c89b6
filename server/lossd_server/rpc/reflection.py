"""Reflection service: grpc.reflection.v1alpha by grpcio-reflection's servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd_server.call.contract import ServerCall
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.small_message import parse_small


class Reflection:
    """Tells which services there are, and what their messages look like."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer((*services, reflection.SERVICE_NAME))

    def add_to(self, dispatcher: Dispatcher) -> None:
        dispatcher.add(reflection.SERVICE_NAME, "ServerReflectionInfo", self._answer, streams=True)

    async def _answer(self, call: ServerCall) -> None:
        servicer: Any = self._servicer  # its stubs take the method for a coroutine
        async for response in servicer.ServerReflectionInfo(_requests(call), None):
            await call.write(response.SerializeToString())


async def _requests(call: ServerCall) -> AsyncIterator[Any]:
    while (body := await call.read()) is not None:
        yield parse_small(body, reflection_pb2.ServerReflectionRequest)

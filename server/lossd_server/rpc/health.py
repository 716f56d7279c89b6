"""Health service: grpc.health.v1 by grpcio-health-checking's servicer. Exempt from admission, and bounded for that."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import grpc
from grpc_health.v1 import health, health_pb2

from lossd_server.call.contract import ServerCall
from lossd_server.errors import NotFound
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.small_calls import SmallCalls

HEALTH: str = health.SERVICE_NAME
_SERVING = health_pb2.HealthCheckResponse.SERVING


class Health:
    """What the server says of its services. `set_serving` when they answer, `stop` before they end."""

    def __init__(self, calls: SmallCalls) -> None:
        self._calls = calls
        self._servicer = health.aio.HealthServicer()

    def add_to(self, dispatcher: Dispatcher) -> None:
        bounded = self._calls.bounded
        dispatcher.add(HEALTH, "Check", bounded(self._check))
        dispatcher.add(HEALTH, "Watch", bounded(self._watch), streams=True)

    async def set_serving(self, service: str) -> None:
        await self._servicer.set(service, _SERVING)

    async def stop(self) -> None:
        """NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()

    async def _check(self, call: ServerCall) -> bytes:
        request = await self._calls.read(call, health_pb2.HealthCheckRequest)
        context: Any = _CheckContext(request.service)
        answer: Any = await self._servicer.Check(request, context)
        body: bytes = answer.SerializeToString()
        return body

    async def _watch(self, call: ServerCall) -> None:
        """The servicer writes under the lock that `set_serving` and `stop` take: so it does not wait for the client,
        who is told the latest status when it takes it."""
        context = _WatchContext()
        request = await self._calls.read(call, health_pb2.HealthCheckRequest)
        watching = asyncio.create_task(self._servicer.Watch(request, cast("Any", context)))
        try:
            while True:
                await self._calls.write(call, await context.changed())
        finally:
            watching.cancel()


class _CheckContext:
    """What `Check` wants of grpc.aio: to end the call."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def abort(self, code: grpc.StatusCode) -> NoReturn:
        assert code is grpc.StatusCode.NOT_FOUND
        raise NotFound(
            f"this server has no service {self._service!r}",
            reason="UNKNOWN_SERVICE",
            field="service",
            metadata={"service": self._service},
        )


class _WatchContext:
    """What `Watch` wants of grpc.aio: to write. Only the last status is kept."""

    def __init__(self) -> None:
        self._last: Any = None
        self._written = asyncio.Event()

    async def write(self, response: Any) -> None:
        self._last = response
        self._written.set()

    async def changed(self) -> Any:
        """The last status written since it was asked before."""
        await self._written.wait()
        self._written.clear()
        return self._last

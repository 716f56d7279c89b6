"""One server in one event loop: its services, its ports, its end."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2

from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend, Pinning
from lossd_server.config.machine import machine_bytes
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.front.grpcio import channel_options
from lossd_server.metrics import EvaluationCounts
from lossd_server.processes.shared_counters import SharedCounters
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.service import SERVICE, LossService
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import SocketServer, group_of

SWEEP_S = 1.0  # how late a call's end may be noticed by the server; a client's own deadline is core's to keep
PUBLISH_S = 0.1  # how old another worker's counters may be
LINGER_S = 0.5  # core turns calls that reach a stopping server into CANCELLED: for this long they hear UNAVAILABLE
_HEALTH_S = 1.0  # the health servicer writes to its watchers under the lock that this takes

log = logging.getLogger(__name__)


class Server:
    """Made, started and stopped inside a running event loop."""

    def __init__(
        self, settings: Settings, backend: Backend, board: SharedCounters | None = None, whole: Settings | None = None
    ) -> None:
        """board, whole: of a worker, its counters among the others' and the settings of all together."""
        self._settings = settings
        self._board = board or SharedCounters()
        admission = Admission(settings.max_inflight_bytes, settings.max_inflight_requests, settings.max_message_bytes)
        tally = EvaluationCounts()
        self._worker = Worker(backend, settings.max_batch_bytes, settings.max_batch_rows)
        self._info = info = ServerInfoReply(whole or settings, backend, admission, self._worker, tally, self._board)
        self._regions = RegionRegistry(
            settings.max_shared_memory_bytes or machine_bytes() // 4, settings.max_message_bytes, admission.require
        )
        pinning = backend if isinstance(backend, Pinning) else None
        self._handover = SocketServer(self._regions, info.instance_id, pinning=pinning)
        self.service = LossService(settings, backend, admission, self._worker, info, tally, self._regions)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=channel_options.arguments(settings, self._board.workers > 1),
            compression=grpc.Compression.NoCompression,
        )
        handlers = [self.service.handler(), _health_handler(self._health)]
        if settings.reflection == "on" or (settings.reflection == "auto" and settings.local):
            handlers.append(_reflection_handler())
        self._server.add_generic_rpc_handlers(handlers)
        self._sweeper: asyncio.TimerHandle | None = None
        self._publisher: asyncio.TimerHandle | None = None

    async def device_lost(self) -> None:
        """Returns when the backend's device cannot be used any more."""
        await self._worker.lost.wait()

    async def start(self) -> list[str]:
        """Opens the ports and serves. The addresses, with the ports that were picked. OSErrors carry a sentence."""
        addresses = []
        for address in self._settings.listen:
            try:
                port = self._server.add_insecure_port(address)
            except RuntimeError as error:
                raise OSError(f"cannot listen on {address}") from error
            addresses.append(address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._share_memory()
        await self._server.start()
        self._sweep()
        if self._board.workers > 1:
            self._publish()
        return addresses

    async def stop(self, drain_s: float, linger_s: float = LINGER_S) -> bool:
        """Refuses new calls, finishes the accepted ones, closes the ports last. False where some did not finish."""
        start = time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._health.enter_graceful_shutdown(), _HEALTH_S)
        finished = await self.service.drain(drain_s)
        await asyncio.sleep(max(0.0, linger_s - (time.monotonic() - start)))
        await self._server.stop(grace=_HEALTH_S if finished else None)
        for timer in (self._sweeper, self._publisher):
            if timer is not None:
                timer.cancel()
        self._worker.close()
        self._handover.stop()
        return finished

    def _share_memory(self) -> None:
        """Opens the socket for shared memory. A private one that cannot be had is done without."""
        settings, info = self._settings, self._info
        path = settings.shared_memory_socket
        if path == "off":
            return
        try:
            if path == "auto":
                self._handover.start()
            else:
                path = path.replace("{worker}", "0")
                self._handover.start(path, int(settings.shared_memory_mode, 8), group_of(settings.shared_memory_group))
        except OSError as error:
            if path != "auto":
                raise
            log.warning("no shared memory", extra={"error": str(error)})
            return
        info.shared_memory_socket = self._handover.path
        info.max_shared_memory_bytes = self._regions.max_bytes * self._board.workers

    def _sweep(self) -> None:
        self.service.expire(time.monotonic())
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _publish(self) -> None:
        self._info.publish()
        self._publisher = asyncio.get_running_loop().call_later(PUBLISH_S, self._publish)


def _health_handler(servicer: health.aio.HealthServicer) -> grpc.GenericRpcHandler:
    """By hand, for the generated function also registers each method, and each would keep a pending accept."""
    request, response = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    return grpc.method_handlers_generic_handler(
        health.SERVICE_NAME,
        {
            "Check": grpc.unary_unary_rpc_method_handler(servicer.Check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, request, response),
        },
    )


def _reflection_handler() -> grpc.GenericRpcHandler:
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    servicer = reflection.aio.ReflectionServicer((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME))
    return grpc.method_handlers_generic_handler(
        reflection.SERVICE_NAME,
        {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                servicer.ServerReflectionInfo,
                reflection_pb2.ServerReflectionRequest.FromString,
                reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
        },
    )

"""Server: one in one event loop. Its services, its ports, its shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend, Pinning
from lossd_server.call.contract import Front, Routes
from lossd_server.config.address import group_of
from lossd_server.config.machine import machine_bytes
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.errors import passes
from lossd_server.front.grpcio.credentials import server_credentials
from lossd_server.front.grpcio.front import GrpcioFront
from lossd_server.front.http2.front import Http2Front
from lossd_server.identity.callers import Callers
from lossd_server.identity.certificates import CertificateFiles, Certificates
from lossd_server.identity.gate import gated
from lossd_server.inference.protocol import FILE, INFERENCE_SERVICE
from lossd_server.inference.service import InferenceService
from lossd_server.intake.intake import Intake
from lossd_server.metrics import EvaluationCounts
from lossd_server.processes import malloc
from lossd_server.processes.malloc import IdleMemory
from lossd_server.processes.shared_counters import SharedCounters
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.health import HEALTH, Health
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.service import SERVICE, LossService
from lossd_server.rpc.small_calls import SmallCalls
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import SocketServer

SWEEP_S = 1.0  # how late a call's end may be noticed by the server; a client's own deadline is core's to keep
SHARE_AGAIN_S = 10.0  # until a socket for shared memory that could not be had is tried again
PUBLISH_S = 0.1  # how old another worker's counters may be
LINGER_S = 0.5  # core turns calls that reach a stopping server into CANCELLED: for this long they hear UNAVAILABLE
GRACE_S = 1.0  # for what was answered to leave, and for watchers of health to hear of the end

log = logging.getLogger(__name__)


class Server:
    """Made, started and stopped inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        counters: SharedCounters | None = None,
        whole: Settings | None = None,
    ) -> None:
        """counters, whole: of a worker, its counters among the others' and the settings of all together.

        Raises SettingsError where certificates or tokens cannot be read.
        """
        files = CertificateFiles.of(settings)
        self._certificates = None if files is None else Certificates(files)
        self._callers = Callers.of(settings)
        self._settings = settings
        self._counters = counters or SharedCounters()
        self._idle = IdleMemory((backend.trim, malloc.give_back))
        admission = Admission(settings.max_inflight_bytes, settings.max_inflight_requests, settings.max_message_bytes)
        self._admission = admission
        self._counts = counts = EvaluationCounts()
        self._worker = Worker(backend, settings.max_batch_bytes, settings.max_batch_rows)
        self._info = ServerInfoReply(whole or settings, backend, admission, self._worker, counts, self._counters)
        self._regions = RegionRegistry(
            settings.max_shared_memory_bytes or machine_bytes() // 4, settings.max_message_bytes, admission.require
        )
        pinning = backend if isinstance(backend, Pinning) else None
        self._memory = SocketServer(self._regions, self._info.instance_id, pinning=pinning)
        intake = Intake(settings, backend, self._worker, self._regions, counts)
        # A client that watches health does so on each of its connections.
        small = SmallCalls(settings.max_connections, "calls of health and of GetServerInfo", settings.max_body_s)
        self.service = LossService(settings, admission, self._worker, intake, self._info, small)
        self.inference = InferenceService(self.service, small)
        self.health = Health(small)
        self.routes = self._routes()
        self._front = self._made_front()
        self._sweeper: asyncio.TimerHandle | None = None
        self._publisher: asyncio.TimerHandle | None = None
        self._sharer: asyncio.TimerHandle | None = None  # of the next try to open the socket for shared memory

    async def device_lost(self) -> None:
        """Returns when the backend's device cannot be used any more."""
        await self._worker.lost.wait()

    async def start(self) -> list[str]:
        """Opens the ports and serves. The addresses, with the ports that were picked. OSErrors carry a sentence."""
        for service in (SERVICE, INFERENCE_SERVICE):
            await self.health.set_serving(service)
        self._share_memory()
        try:
            addresses = await self._front.start(self._settings.listen)
        except OSError:
            self._memory.stop()
            raise
        self._sweep()
        if self._counters.workers > 1:
            self._publish()
        return addresses

    async def stop(self, drain_s: float, linger_s: float = LINGER_S) -> bool:
        """Refuses new calls, finishes the accepted ones, closes the ports last. False where some did not finish."""
        start = time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.health.stop(), GRACE_S)
        finished = await self.service.drain(drain_s)
        await asyncio.sleep(max(0.0, linger_s - (time.monotonic() - start)))
        await self._front.stop(GRACE_S if finished else None)
        for timer in (self._sweeper, self._publisher, self._sharer):
            if timer is not None:
                timer.cancel()
        self._worker.close()
        self._memory.stop()
        return finished

    def _made_front(self) -> Front:
        settings, certificates = self._settings, self._certificates
        shares_port = self._counters.workers > 1
        if settings.front == "http2":
            return Http2Front(
                self.routes, settings, shares_port, None if certificates is None else certificates.listening
            )
        tls = None
        if certificates is not None:
            demands = bool(settings.tls_client_ca)
            tls = server_credentials(certificates.files.read, lambda: certificates.changes, demands)
        return GrpcioFront(self.routes, settings, shares_port, tls)

    def _routes(self) -> Routes:
        dispatcher = Dispatcher()
        self.service.add_to(dispatcher)
        self.inference.add_to(dispatcher)
        self.health.add_to(dispatcher)
        settings = self._settings
        if settings.reflection == "on" or (settings.reflection == "auto" and settings.local):
            from lossd_server.rpc.reflection import Reflection

            Reflection((SERVICE, INFERENCE_SERVICE, HEALTH), settings.max_body_s, (FILE,)).add_to(dispatcher)
        routes = dispatcher.routes()
        return routes if self._callers is None else gated(routes, self._callers, open_services=(HEALTH,))

    def _share_memory(self) -> None:
        """Opens the socket for shared memory. A private one that cannot be had is done without.

        Where that passes it is tried again; until then GetServerInfo tells how many bytes are taken, and no socket.
        """
        settings, info = self._settings, self._info
        path = settings.shared_memory_socket
        if path == "off":
            return
        max_bytes = self._regions.max_bytes * self._counters.workers
        try:
            if path == "auto":
                self._memory.start()
            else:
                path = path.replace("{worker}", "0")
                self._memory.start(path, int(settings.shared_memory_mode, 8), group_of(settings.shared_memory_group))
        except OSError as error:
            if path != "auto":
                raise
            log.warning("no shared memory", extra={"error": str(error)})
            if passes(error):
                info.max_shared_memory_bytes = max_bytes
                self._sharer = asyncio.get_running_loop().call_later(SHARE_AGAIN_S, self._share_memory)
            return
        info.shared_memory_socket = self._memory.path
        info.max_shared_memory_bytes = max_bytes

    def _sweep(self) -> None:
        now = time.monotonic()
        self.service.expire(now)
        admission, counts = self._admission, self._counts
        if self._certificates is not None:
            self._certificates.look()
        if self._callers is not None:
            self._callers.look()
        self._idle.check(now, admission.requests > 0 or admission.bytes > 0, (counts.completed, counts.failed))
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _publish(self) -> None:
        self._info.publish()
        self._publisher = asyncio.get_running_loop().call_later(PUBLISH_S, self._publish)

"""Server: one in one event loop. Its services, its ports, its shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from lossd_server.admission.byte_budget import Admission
from lossd_server.admission.caller_holdings import CallerHoldings
from lossd_server.backends import Backend, Pinning, ReportsTransfers
from lossd_server.call.contract import Front, Metadata, Routes
from lossd_server.call.identity import Identity
from lossd_server.config.address import group_of
from lossd_server.config.machine import machine_bytes
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.errors import passes
from lossd_server.front.grpcio.credentials import server_credentials
from lossd_server.front.grpcio.front import GrpcioFront
from lossd_server.front.http2.front import Http2Front
from lossd_server.front.http2.protocol import ALPN
from lossd_server.front.local.front import LocalFront, LocalSocket
from lossd_server.identity.callers import Callers
from lossd_server.identity.certificate_expiry import ExpiryWarnings
from lossd_server.identity.certificates import CertificateFiles, Certificates
from lossd_server.identity.gate import gated
from lossd_server.inference.protocol import FILE, INFERENCE_SERVICE
from lossd_server.inference.service import InferenceService
from lossd_server.intake.intake import Intake
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.processes import malloc
from lossd_server.processes.malloc import SpareMemory
from lossd_server.rpc.call_metrics import CallMetrics
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.rpc.gauges import Gauges
from lossd_server.rpc.health import HEALTH, Health
from lossd_server.rpc.load_sampler import LoadSampler
from lossd_server.rpc.server_info import ServerInfoReply
from lossd_server.rpc.service import SERVICE, LossService
from lossd_server.rpc.small_calls import SmallCalls
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.shared_memory.socket_server import SocketServer
from lossd_server.telemetry.access_log import AccessLog
from lossd_server.telemetry.otlp import close_provider, otlp_provider
from lossd_server.telemetry.recorded_routes import CallSink, recorded

SWEEP_S = 1.0  # how late a call's end may be noticed by the server; a client's own deadline is core's to keep
SHARE_AGAIN_S = 10.0  # until a socket for shared memory that could not be had is tried again
PUBLISH_S = 0.1  # how old another worker's gauges may be
LINGER_S = 0.5  # core turns calls that reach a stopping server into CANCELLED: for this long they hear UNAVAILABLE
GRACE_S = 1.0  # for what was answered to leave, and for watchers of health to hear of the end

log = logging.getLogger(__name__)


class Server:
    """Made, started and stopped inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        metrics: WorkerMetrics | None = None,
        whole: Settings | None = None,
        local: LocalSocket | None = None,
    ) -> None:
        """metrics, whole: of a worker, what it counts among the others and the settings of all together. local: where
        the HTTP port's calls come in, if there is one.

        Raises SettingsError where certificates or tokens cannot be read.
        """
        files = CertificateFiles.of(settings)
        self._certificates = None if files is None else Certificates(files, [ALPN])
        self._expiry = ExpiryWarnings()
        self._callers = Callers.of(settings)
        self._provider = otlp_provider(settings)
        self._settings = settings
        self.metrics = metrics = metrics or WorkerMetrics()
        self._spare = SpareMemory((backend.trim, malloc.give_back), (backend.age, malloc.give_back_beside))
        every_caller = Identity(
            "",
            max_inflight_requests=settings.max_caller_requests,
            max_inflight_bytes=settings.max_caller_bytes,
            max_streams=settings.max_caller_streams,
        )
        callers = CallerHoldings(every_caller, metrics.workers)
        admission = Admission(
            settings.max_inflight_bytes, settings.max_inflight_requests, settings.max_message_bytes, callers
        )
        self._admission = admission
        if isinstance(backend, ReportsTransfers):
            backend.transferred = metrics.transferred
        self._worker = Worker(backend, settings.max_batch_bytes, settings.max_batch_rows, metrics)
        self._info = ServerInfoReply(whole or settings, backend, admission, metrics, self._publish)
        self._regions = RegionRegistry(
            settings.max_shared_memory_bytes or machine_bytes() // 4, settings.max_message_bytes, admission.require
        )
        pinning = backend if isinstance(backend, Pinning) else None
        self._memory = SocketServer(self._regions, self._info.instance_id, pinning=pinning)
        intake = Intake(settings, backend, self._worker, self._regions, metrics)
        # A client that watches health does so on each of its connections.
        small = SmallCalls(settings.max_connections, "calls of health and of GetServerInfo", settings.max_body_s)
        self.service = LossService(settings, admission, self._worker, intake, self._info, small)
        self.inference = InferenceService(self.service, small)
        self.health = Health(small)
        self._call_metrics = CallMetrics(metrics)
        self.routes = self._routes()
        self._front = self._made_front()
        self._local = None if local is None else LocalFront(self.routes, local)
        self._gauges = Gauges(metrics, admission, self.service, self._regions, self._front, backend)
        self._load = LoadSampler(self.routes.load, admission, self._worker, metrics, lambda: intake.closing)
        self._sweeper: asyncio.TimerHandle | None = None
        self._publisher: asyncio.TimerHandle | None = None
        self._sharer: asyncio.TimerHandle | None = None  # of the next try to open the socket for shared memory

    async def device_lost(self) -> None:
        """Returns when the backend's device cannot be used any more."""
        await self._worker.lost.wait()

    @property
    def is_device_lost(self) -> bool:
        return self._worker.lost.is_set()

    async def start(self) -> list[str]:
        """Opens the ports and serves. The addresses, with the ports that were picked. OSErrors carry a sentence."""
        for service in (SERVICE, INFERENCE_SERVICE):
            await self.health.set_serving(service)
        self._share_memory()
        try:
            if self._local is not None:
                await self._local.start()
            addresses = await self._front.start(self._settings.listen)
        except OSError:
            self._memory.stop()
            raise
        self._sweep()
        self._load.start()
        if self.metrics.workers > 1 or self._settings.http:
            self._go_on_publishing()
        return addresses

    async def stop(self, drain_s: float, linger_s: float = LINGER_S) -> bool:
        """Refuses new calls, finishes the accepted ones, closes the ports last. False where some did not finish."""
        start = time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.health.stop(), GRACE_S)
        finished = await self.service.drain(drain_s)
        await asyncio.sleep(max(0.0, linger_s - (time.monotonic() - start)))
        grace_s = GRACE_S if finished else None
        if self._local is not None:
            await self._local.stop(grace_s)
        await self._front.stop(grace_s)
        for timer in (self._sweeper, self._publisher, self._sharer):
            if timer is not None:
                timer.cancel()
        self._load.stop()
        self._worker.close()
        self._memory.stop()
        if self._provider is not None:
            await close_provider(self._provider)
        return finished

    def _made_front(self) -> Front:
        settings, certificates = self._settings, self._certificates
        shares_port = self.metrics.workers > 1
        if settings.front == "http2":
            return Http2Front(self.routes, settings, shares_port, None if certificates is None else certificates.newest)
        tls = None
        if certificates is not None:
            demands = bool(settings.tls_client_ca)
            tls = server_credentials(lambda: certificates.pem, lambda: certificates.changes, demands)
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
        routes = gated(routes, self._callers, self._admission.callers, (HEALTH,), self.metrics.called)
        return self._recorded(self._call_metrics.counted(routes))

    def _recorded(self, routes: Routes) -> Routes:
        """The routes as they are, where nobody looks on."""
        settings = self._settings
        sinks: list[CallSink] = []
        if settings.access_log != "off":
            sinks.append(AccessLog(every=settings.access_log == "all"))
        if settings.traces != "off":
            from lossd_server.telemetry.call_spans import CallSpans

            sinks.append(CallSpans(self._provider))
        if not sinks:
            return routes
        callers = self._callers

        def name_of(metadata: Metadata, subject: str) -> str:
            return "" if callers is None else callers.identify(metadata, subject).name

        return recorded(routes, sinks, name_of, self.service.evaluations.intake.rows_of)

    def _share_memory(self) -> None:
        """Opens the socket for shared memory. A private one that cannot be had is done without.

        Where that passes it is tried again; until then GetServerInfo tells how many bytes are taken, and no socket.
        """
        settings, info = self._settings, self._info
        path = settings.shared_memory_socket
        if path == "off":
            return
        max_bytes = self._regions.max_bytes * self.metrics.workers
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
        # First of all: whatever fails in this one, there is a next.
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now = time.monotonic()
        self.service.expire(now)
        admission = self._admission
        if self._certificates is not None:
            self._certificates.look()
            if self.metrics.index == 0:  # of several workers one is enough
                self._expiry.check(self._certificates.ends, time.time())
        if self._callers is not None:
            self._callers.look()
        self._spare.check(now, admission.requests > 0 or admission.bytes > 0, self.metrics.activity())

    def _publish(self) -> None:
        """What others may read is of now."""
        self._call_metrics.settle()
        self._gauges.publish()

    def _go_on_publishing(self) -> None:
        self._publisher = asyncio.get_running_loop().call_later(PUBLISH_S, self._go_on_publishing)
        self._publish()
        self.metrics.beat()

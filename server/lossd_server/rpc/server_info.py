"""Server information: what GetServerInfo answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from lossd.contract import MAX_RANK
from lossd.v1 import service_pb2
from lossd.version import __version__
from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend
from lossd_server.call.identity import CALLER, Identity, peer_host
from lossd_server.config.settings import Settings
from lossd_server.jobs.job import RUN
from lossd_server.losses import SERVED
from lossd_server.metrics.layout import Gauge
from lossd_server.metrics.memory import total_of
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.streaming.open_request import BLOCK_OVERHEAD_BYTES
from lossd_server.streaming.stream import MAX_STREAMS
from lossd_server.tensors.array import FLOATS, INTEGERS

# Limits that are as the settings have them.
TOLD_AS_SET = (
    "max_deadline_s",
    "max_admission_wait_s",
    "max_body_s",
    "max_stream_idle_s",
    "max_connections",
    "max_connection_idle_s",
    "max_connection_age_s",
    "drain_s",
)
# Integers as counts.
INPUT_DTYPES = sorted(FLOATS | INTEGERS)


class ServerInfoReply:
    """Answers from the very numbers that are enforced."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        admission: Admission,
        metrics: WorkerMetrics,
        publish: Callable[[], object],
    ) -> None:
        """settings: of all workers together. publish: has this worker's gauges say how it is now."""
        self.instance_id = secrets.token_hex(16)
        self.shared_memory_socket = ""  # a path, once there is one
        self.max_shared_memory_bytes = 0
        self._settings = settings
        self._backend = backend
        self._admission = admission
        self._metrics = metrics
        self._publish = publish
        self._started_at = time.monotonic()

    def response(self, peer: str) -> bytes:
        """The serialised GetServerInfoResponse of now, for who makes the call that runs; what other workers hold may be
        a tenth of a second old."""
        self._publish()
        metrics = self._metrics
        completed, failed = metrics.evaluations()
        batches, rows = metrics.batches()
        caller = self._admission.callers.limits_of(CALLER.get() or Identity(peer_host(peer)))
        return service_pb2.GetServerInfoResponse(
            version=__version__,
            instance_id=self.instance_id,
            device=self._backend.device,
            backends=[self._backend.name],
            dtypes=INPUT_DTYPES,
            losses=sorted(SERVED),
            limits=service_pb2.Limits(
                max_message_bytes=self._admission.max_message_bytes,
                max_inflight_bytes=self._settings.max_inflight_bytes,
                max_inflight_requests=self._settings.max_inflight_requests,
                max_rank=MAX_RANK,
                max_item_bytes=max(0, self._admission.max_message_bytes - BLOCK_OVERHEAD_BYTES),
                max_shared_memory_bytes=self.max_shared_memory_bytes,
                max_streams=MAX_STREAMS * metrics.workers,
                caller=service_pb2.CallerLimits(
                    name=caller.name,
                    max_inflight_requests=caller.max_inflight_requests,
                    max_inflight_bytes=caller.max_inflight_bytes,
                    max_streams=caller.max_streams,
                ),
                **{name: getattr(self._settings, name) for name in TOLD_AS_SET},
            ),
            shared_memory_socket=self.shared_memory_socket,
            elementwise_granularity=RUN,
            statistics=service_pb2.Statistics(
                uptime_s=time.monotonic() - self._started_at,
                completed=completed,
                failed=failed,
                batches=batches,
                rows=rows,
                inflight_bytes=total_of(metrics.all, Gauge.INFLIGHT_BYTES),
                inflight_requests=total_of(metrics.all, Gauge.INFLIGHT_REQUESTS),
                utilization=metrics.utilization(),
            ),
            workers=metrics.workers,
        ).SerializeToString()

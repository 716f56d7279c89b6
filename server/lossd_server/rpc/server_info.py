"""Server information: what GetServerInfo answers."""

from __future__ import annotations

import secrets
import time

from lossd.contract import MAX_RANK
from lossd.v1 import service_pb2
from lossd.version import __version__
from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.jobs.job import RUN
from lossd_server.losses import SERVED
from lossd_server.metrics import EvaluationCounts
from lossd_server.processes.shared_counters import SharedCounters
from lossd_server.streaming.open_request import BLOCK_OVERHEAD_BYTES
from lossd_server.tensors.array import FLOATS, INTEGERS

# Integers as counts.
INPUT_DTYPES = sorted(FLOATS | INTEGERS)


class ServerInfoReply:
    """Answers from the very numbers that are enforced."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        admission: Admission,
        worker: Worker,
        counts: EvaluationCounts,
        counters: SharedCounters,
    ) -> None:
        """settings: of all workers together."""
        self.instance_id = secrets.token_hex(16)
        self.shared_memory_socket = ""  # a path, once there is one
        self.max_shared_memory_bytes = 0
        self._settings = settings
        self._backend = backend
        self._admission = admission
        self._worker = worker
        self._counts = counts
        self._counters = counters

    def publish(self) -> None:
        """Tells the other workers what this one has counted."""
        counts, worker, admission = self._counts, self._worker, self._admission
        self._counters.publish(
            (counts.completed, counts.failed, worker.batches, worker.rows, admission.bytes, admission.requests)
        )

    def response(self) -> bytes:
        """The serialised GetServerInfoResponse of now; other workers' counters may be a tenth of a second old."""
        self.publish()
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
                max_deadline_s=self._settings.max_deadline_s,
                max_shared_memory_bytes=self.max_shared_memory_bytes,
            ),
            shared_memory_socket=self.shared_memory_socket,
            elementwise_granularity=RUN,
            statistics=service_pb2.Statistics(
                uptime_s=time.monotonic() - self._counts.started_at, **self._counters.totals()
            ),
            workers=self._counters.workers,
        ).SerializeToString()

"""Gauges of a server: what it holds now, written where a scrape reads it."""

from __future__ import annotations

import time

from lossd_server.admission.byte_budget import Admission
from lossd_server.backends import Backend, ReportsMemory
from lossd_server.call.contract import Front
from lossd_server.metrics.layout import Gauge
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.rpc.service import LossService
from lossd_server.shared_memory.registry import RegionRegistry

# The device is asked no more often: that goes through its driver.
DEVICE_S = 1.0


class Gauges:
    """Of one server; on the event loop's thread."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        admission: Admission,
        service: LossService,
        regions: RegionRegistry,
        front: Front,
        backend: Backend,
    ) -> None:
        self._metrics = metrics
        self._admission = admission
        self._service = service
        self._regions = regions
        self._front = front
        self._device = backend if isinstance(backend, ReportsMemory) else None
        self._asked_at = -DEVICE_S

    def publish(self) -> None:
        """They are of now."""
        admission, service = self._admission, self._service
        self._metrics.set(
            {
                Gauge.INFLIGHT_BYTES: admission.bytes,
                Gauge.INFLIGHT_BYTES_LIMIT: admission.max_bytes,
                Gauge.INFLIGHT_REQUESTS: admission.requests,
                Gauge.INFLIGHT_REQUESTS_LIMIT: admission.max_requests,
                Gauge.WAITING_REQUESTS: service.evaluations.waiting + len(service.streams.line),
                Gauge.STREAMS: len(service.streams.open),
                Gauge.CONNECTIONS: self._front.connections or 0,
                Gauge.SHARED_MEMORY_BYTES: self._regions.taken_bytes,
            }
        )
        self._metrics.hold(admission.callers.held_by_identity())
        now = time.monotonic()
        if self._device is not None and self._asked_at + DEVICE_S <= now:
            self._asked_at = now
            used, total = self._device.device_memory() or (0, 0)
            self._metrics.set({Gauge.DEVICE_MEMORY_USED: used, Gauge.DEVICE_MEMORY_TOTAL: total})

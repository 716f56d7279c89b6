"""Load sampler: looks at the server ten times a second, and has its calls tell how busy it is (`utilization`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import uniform

from lossd_server.admission.byte_budget import Admission
from lossd_server.call.load_report import LoadReport
from lossd_server.engine.worker import Worker
from lossd_server.metrics.layout import AS_WORD, Gauge
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.rpc.utilization import LoadSample, Utilization

# On average: from half of it to one and a half. A container that has used up its processor time stands still until the
# next tenth of a second, and a timer of just that would always find it running.
SAMPLE_S = 0.1


class LoadSampler:
    """Of one server, by a timer of its event loop. closing: whether it takes no more calls."""

    def __init__(
        self,
        load: LoadReport,
        admission: Admission,
        worker: Worker,
        metrics: WorkerMetrics,
        closing: Callable[[], bool],
    ) -> None:
        self._load = load
        self._admission = admission
        self._worker = worker
        self._metrics = metrics
        self._closing = closing
        self._timer: asyncio.TimerHandle | None = None
        self._utilization = Utilization(self._sample(time.monotonic(), 0.0))

    def start(self) -> None:
        self._wait(time.monotonic())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, now_s: float) -> None:
        wait_s = uniform(0.5, 1.5) * SAMPLE_S
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look, now_s + wait_s)

    def _look(self, due_s: float) -> None:
        now_s = time.monotonic()
        self._wait(now_s)  # first of all: whatever fails in this one, there is a next
        # What waits for the loop is as late as this is.
        self._utilization.observe(self._sample(now_s, max(0.0, now_s - due_s)))
        self._metrics.set({Gauge.UTILIZATION: round(AS_WORD * self._utilization.value)})
        self._load.tell(self._utilization.report(self._closing()))

    def _sample(self, now_s: float, late_s: float) -> LoadSample:
        admission, worker = self._admission, self._worker
        held = max(admission.bytes / admission.max_bytes, admission.requests / admission.max_requests)
        compute_s, loop_s = worker.busy_s(now_s), time.thread_time()
        return LoadSample(now_s, late_s + worker.wait_s, held, compute_s, loop_s, self._metrics.answered())

"""Readiness: whether calls are to be sent to this server now, and why not. Read by any thread."""

from __future__ import annotations

import time
from enum import Enum

from lossd_server.metrics.layout import BEAT, Gauge
from lossd_server.metrics.memory import Words, of_each

# An event loop tells of itself ten times a second: one that has not for so long answers nobody.
STUCK_NS = 3_000_000_000


class Phase(Enum):
    """The value is why it is not ready."""

    STARTING = "starting: kernels are compiled or loaded"
    SERVING = ""
    STOPPING = "stopping: no new calls are accepted"


class Readiness:
    """words: of the metrics of all workers. phase: set by whoever starts and stops them."""

    def __init__(self, words: Words) -> None:
        self.phase = Phase.STARTING
        self._words = words

    def why_not(self) -> str:
        """A sentence; "" where it is ready: some worker runs, and none stands still."""
        if self.phase is not Phase.SERVING:
            return str(self.phase.value)
        now_ns = time.monotonic_ns()
        pids, beats = of_each(self._words, Gauge.PID), of_each(self._words, BEAT)
        if not any(pids):
            return "no worker runs: each is started again"
        for index, (pid, beat_ns) in enumerate(zip(pids, beats, strict=True)):
            if pid and now_ns - beat_ns > STUCK_NS:
                return (
                    f"worker {index} stands still: its event loop has not turned for {(now_ns - beat_ns) / 1e9:.0f} s"
                )
        return ""

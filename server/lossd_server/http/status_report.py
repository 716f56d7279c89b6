"""Status report: what the status page shows, from the words that metrics are made of. All counts since the start.

Whoever wants rates takes the difference of two of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lossd_server.config.settings import Settings
from lossd_server.metrics import layout, memory
from lossd_server.metrics.collector import SECOND_NS, Build
from lossd_server.metrics.layout import (
    AT_ONCE,
    BY_LOSS,
    BY_METHOD,
    HANDLED,
    LOSS_WORDS,
    METHOD_WORDS,
    STARTED,
    TIMES_NS,
    TIMES_WIDTH,
    WELL,
    Gauge,
)
from lossd_server.metrics.memory import Words
from lossd_server.metrics.methods import EVALUATING, LOSSES, METHODS
from lossd_server.metrics.processes import process_families
from lossd_server.processes.readiness import Readiness


class StatusReport:
    """Of all workers. build: told of what the start finds out."""

    def __init__(self, words: Words, build: Build, readiness: Readiness, settings: Settings) -> None:
        self._words = words
        self._build = build
        self._readiness = readiness
        self._limits = settings.limits()
        self._counts_connections = settings.front == "http2"

    def read(self) -> dict[str, Any]:
        """As it is now: bytes, seconds and counts, for JSON."""
        words, build = self._words, self._build
        totals = memory.totals_of(words)
        pids = [pid for pid in memory.of_each(words, Gauge.PID) if pid]
        processes = {family.name: family.samples[0].value for family in process_families(pids)}
        why_not = self._readiness.why_not()
        return {
            "time_s": time.time(),
            "ready": not why_not,
            "why_not": why_not,
            "version": build.version,
            "devices": list(build.devices),
            "backend": build.backend,
            "addresses": list(build.addresses),
            "started_s": processes.get("process_start_time_seconds", 0.0),
            "workers": {"running": len(pids), "restarts": memory.restarts_of(words)},
            "utilization": totals[Gauge.UTILIZATION] / layout.AS_WORD / max(1, len(pids)),
            "inflight": {
                "bytes": totals[Gauge.INFLIGHT_BYTES],
                "bytes_limit": totals[Gauge.INFLIGHT_BYTES_LIMIT],
                "requests": totals[Gauge.INFLIGHT_REQUESTS],
                "requests_limit": totals[Gauge.INFLIGHT_REQUESTS_LIMIT],
                "waiting": totals[Gauge.WAITING_REQUESTS],
                "streams": totals[Gauge.STREAMS],
                "connections": totals[Gauge.CONNECTIONS] if self._counts_connections else None,
            },
            "memory": {
                "resident_bytes": processes.get("process_resident_memory_bytes", 0),
                "shared_bytes": totals[Gauge.SHARED_MEMORY_BYTES],
                "shared_bytes_limit": self._limits.get("max_shared_memory_bytes"),
                "device_bytes": totals[Gauge.DEVICE_MEMORY_USED],
                "device_bytes_total": totals[Gauge.DEVICE_MEMORY_TOTAL],
            },
            "files": {"open": processes.get("process_open_fds", 0), "limit": processes.get("process_max_fds", 0)},
            "calls": _calls(totals),
            "evaluations": _evaluations(totals),
            "cancelled": totals[layout.CANCELLED],
            "refused": _by_reason(words),
            "http_refused": memory.http_refused_of(words),
            "histograms": _histograms(totals),
            "limits": self._limits,
        }


def _calls(totals: Sequence[int]) -> dict[str, int]:
    """Of methods that evaluate losses, a stream being one."""
    started = ended_well = failed = 0
    for place in EVALUATING:
        at = BY_METHOD + place * METHOD_WORDS
        at_once = sum(totals[at + AT_ONCE : at + AT_ONCE + TIMES_WIDTH - 1])
        started += totals[at + STARTED] + at_once
        ended_well += sum(totals[at + WELL : at + WELL + TIMES_WIDTH - 1]) + at_once
        failed += sum(totals[at + HANDLED + 1 : at + HANDLED + len(layout.CODES)])
    return {"started": started, "completed": ended_well, "failed": failed}


def _evaluations(totals: Sequence[int]) -> dict[str, dict[str, int]]:
    """By loss, of those that there were."""
    found = {}
    for place, loss in enumerate(LOSSES):
        at = BY_LOSS + place * LOSS_WORDS
        planned = sum(totals[at + layout.PLANNED : at + layout.PLANNED + TIMES_WIDTH - 1])
        completed, failed = totals[at + layout.COMPLETED] + planned, totals[at + layout.FAILED]
        if completed or failed:
            found[loss] = {"completed": completed, "failed": failed}
    return found


def _by_reason(words: Words) -> dict[str, dict[str, int]]:
    """refused, and of those shed: for load alone."""
    found = memory.by_name(words, layout.REASON_NAMES, layout.REFUSED, layout.SHED)
    return {name: {"refused": refused, "shed": shed} for name, (refused, shed) in found.items() if refused}


def _histograms(totals: Sequence[int]) -> dict[str, Any]:
    """total: of unary calls that ended well, from beginning to answer; queue and compute are parts of it."""
    total, compute = [0] * TIMES_WIDTH, [0] * TIMES_WIDTH
    queue = list(totals[layout.QUEUE_WAIT : layout.QUEUE_WAIT + TIMES_WIDTH])
    for place in EVALUATING:
        if not METHODS[place].streams:
            at = BY_METHOD + place * METHOD_WORDS
            _add(total, totals[at + WELL : at + WELL + TIMES_WIDTH])
            _add(total, totals[at + AT_ONCE : at + AT_ONCE + TIMES_WIDTH])
    for place in range(len(LOSSES)):
        at = BY_LOSS + place * LOSS_WORDS
        _add(compute, totals[at + layout.COMPUTE : at + layout.COMPUTE + TIMES_WIDTH])
        planned = totals[at + layout.PLANNED : at + layout.PLANNED + TIMES_WIDTH]
        _add(compute, planned)
        queue[0] += sum(planned[:-1])  # those by plans waited for nothing
    requests = totals[layout.BATCH_REQUESTS : layout.BATCH_REQUESTS + layout.histogram_words(layout.REQUESTS)]
    rows = totals[layout.BATCH_ROWS : layout.BATCH_ROWS + layout.histogram_words(layout.ROWS)]
    return {
        "total_s": _histogram(TIMES_NS, total, SECOND_NS),
        "queue_s": _histogram(TIMES_NS, queue, SECOND_NS),
        "compute_s": _histogram(TIMES_NS, compute, SECOND_NS),
        "batch_requests": _histogram(layout.REQUESTS, requests, 1.0),
        "batch_rows": _histogram(layout.ROWS, rows, 1.0),
    }


def _add(sums: list[int], words: Sequence[int]) -> None:
    for place, word in enumerate(words):
        sums[place] += word


def _histogram(bounds: Sequence[int], words: Sequence[int], unit: float) -> dict[str, Any]:
    """bounds: upper ones, of all counts but the last."""
    return {"bounds": [bound / unit for bound in bounds], "counts": list(words[:-1]), "sum": words[-1] / unit}

"""A worker's share of what was given for all workers together."""

from __future__ import annotations

import os
from dataclasses import replace

from lossd_server.config.machine import machine_bytes
from lossd_server.config.settings import Settings


def share(settings: Settings, index: int) -> Settings:
    """A worker's part of the limits that were given for the whole."""
    count = settings.workers
    threads = settings.threads or len(os.sched_getaffinity(0))
    return replace(
        settings,
        workers=1,
        http="",
        threads=max(1, threads // count),
        max_inflight_bytes=settings.max_inflight_bytes // count,
        max_inflight_requests=max(1, settings.max_inflight_requests // count),
        max_connections=max(1, settings.max_connections // count),
        max_shared_memory_bytes=(settings.max_shared_memory_bytes or machine_bytes() // 4) // count,
        shared_memory_socket=settings.shared_memory_socket.replace("{worker}", str(index)),
    )

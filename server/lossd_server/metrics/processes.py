"""Process metrics: prometheus_client's, added up over several processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric as Family

# Of several processes: since when the first of them runs, and what each of them may open.
COMBINED = {"process_start_time_seconds": min, "process_max_fds": min}


def process_families(pids: Iterable[int]) -> Iterator[Family]:
    """Of these processes and this one; those that have ended are left out."""
    found: dict[str, Family] = {}
    for pid in {os.getpid(), *pids}:
        for family in ProcessCollector(
            pid=partial(int, pid), registry=CollectorRegistry(auto_describe=False)
        ).collect():
            known = found.setdefault(family.name, family)
            if known is not family:
                combine = COMBINED.get(family.name, sum)
                values = (known.samples[0].value, family.samples[0].value)
                known.samples[0] = known.samples[0]._replace(value=combine(values))
    yield from found.values()

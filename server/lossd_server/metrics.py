"""Metrics: counters of a server. What `GetServerInfo` tells of them is in `rpc.server_info`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class EvaluationCounts:
    """Evaluations since the server started, by how they ended: with a result, or with a status."""

    completed: int = 0
    failed: int = 0
    started_at: float = field(default_factory=time.monotonic)

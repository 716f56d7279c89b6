"""Statistics of inferences by model, in the protocol's form: counts and times of this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lossd_server.inference.models import MODELS, VERSION
from lossd_server.inference.protocol import message_class

ModelStatisticsResponse = message_class("ModelStatisticsResponse")


@dataclass(slots=True)
class InferenceCounts:
    """Of one model. executions: batches, one that others share in part."""

    successes: int = 0
    success_ns: int = 0
    failures: int = 0
    failure_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    executions: float = 0.0
    last_ms: int = 0


class InferenceStatistics:
    """Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._models = {name: InferenceCounts() for name in MODELS}

    def succeeded(self, model: str, took_ns: int, queue_ns: int, compute_ns: int, batch_requests: int) -> None:
        counts = self._models[model]
        counts.successes += 1
        counts.success_ns += took_ns
        counts.queue_ns += queue_ns
        counts.compute_ns += compute_ns
        counts.executions += 1 / batch_requests
        counts.last_ms = time.time_ns() // 1_000_000

    def failed(self, model: str, took_ns: int) -> None:
        counts = self._models[model]
        counts.failures += 1
        counts.failure_ns += took_ns

    def response(self, models: Sequence[str]) -> Any:
        """A ModelStatisticsResponse of these."""
        response = ModelStatisticsResponse()
        for name in models:
            counts = self._models[name]
            one = response.model_stats.add(
                name=name,
                version=VERSION,
                last_inference=counts.last_ms,
                inference_count=counts.successes,
                execution_count=round(counts.executions),
            )
            took = one.inference_stats
            for duration, count, ns in (
                (took.success, counts.successes, counts.success_ns),
                (took.fail, counts.failures, counts.failure_ns),
                (took.queue, counts.successes, max(0, counts.queue_ns)),
                (took.compute_input, counts.successes, 0),
                (took.compute_infer, counts.successes, counts.compute_ns),
                (took.compute_output, counts.successes, 0),
            ):
                duration.count, duration.ns = count, ns
        return response

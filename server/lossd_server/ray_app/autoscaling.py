"""Autoscaling by utilisation: as many replicas as what they do together needs. Serve calls it with that."""

from __future__ import annotations

from math import ceil
from typing import Any

# What `record_autoscaling_stats` calls it.
UTILIZATION = "utilization"


def wanted(utilizations: list[float], replicas: int, target: float) -> int:
    """replicas: those that there are, of which some may not have said what they do: they count as the others' mean.

    A waiting line has no end, so one replica counts as 2 at most.
    """
    if not utilizations:
        return replicas
    mean = sum(min(one, 2.0) for one in utilizations) / len(utilizations)
    return max(1, ceil(replicas * mean / target - 1e-9))


class ByUtilization:
    """target: of each replica. Serve applies its delays and bounds to what comes out."""

    def __init__(self, target: float) -> None:
        self.target = target

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """context: Serve's AutoscalingContext."""
        told = (context.aggregated_metrics or {}).get(UTILIZATION, {})
        return wanted(list(told.values()), context.current_num_replicas, self.target), {}

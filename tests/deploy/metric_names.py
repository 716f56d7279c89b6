"""Metrics that dashboards, alerts and autoscalers may name: those of the server, with their labels."""

from __future__ import annotations

import re

from lossd_server.metrics.table import HISTOGRAM, METRICS

COUNTERS_AND_GAUGES = {one.shown: one.labels for one in METRICS if one.kind != HISTOGRAM} | {"up": ()}
HISTOGRAMS = {one.shown: one.labels for one in METRICS if one.kind == HISTOGRAM}
SERIES: dict[str, tuple[str, ...]] = COUNTERS_AND_GAUGES | {
    f"{name}{suffix}": (*labels, "le") if suffix == "_bucket" else labels
    for name, labels in HISTOGRAMS.items()
    for suffix in ("_bucket", "_sum", "_count")
}
# What Prometheus adds, and what it was told to add.
TARGET_LABELS = ("job", "instance")


def unknown(expression: str) -> set[str]:
    """Names of an expression that the server has not: metrics, and labels that none of its metrics has."""
    metrics = set(re.findall(r"\b(?:up|(?:grpc_server|lossd|process)_\w+)\b", _without_texts(expression)))
    named = {label for name in metrics & SERIES.keys() for label in SERIES[name]} | set(TARGET_LABELS)
    labels = set[str]()
    for matchers in re.findall(r"\{([^}]*)\}", _without_texts(expression)):
        labels.update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
    for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
        labels.update(re.findall(r"\w+", group))
    return (metrics - SERIES.keys()) | (labels - named)


def _without_texts(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)

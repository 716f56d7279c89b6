"""The page of metrics is the table of metrics."""

from __future__ import annotations

from pathlib import Path

from lossd_server.metrics.table import METRICS, Metric

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/metrics.md"


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.shown}` | {metric.kind} | {labels} | {metric.help} |"


def test_the_page_has_every_metric() -> None:
    """Each row of the page is one of the table, in its order, and no other row is of a metric."""
    text = PAGE.read_text(encoding="utf-8").partition("## All metrics")[2]
    rows = [line for line in text.splitlines() if line.startswith("| `")]

    assert rows == [row(metric) for metric in METRICS]

"""A scrape, read by prometheus_client's own parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from lossd_server.config.settings import Settings
from lossd_server.http.port import HttpPort
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.processes.readiness import Phase, Readiness


class Page:
    """What a page says. families: their kinds, by name."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, str] = {}
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            self.families[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._samples, f"{key} comes twice"
                self._samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Of one series; 0 where there is none."""
        return self._samples.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """Of all series that have these labels."""
        return sum(value for _, value in self.series(name, **labels))

    def series(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Their labels and values."""
        return [
            (dict(found), value)
            for (of, found), value in self._samples.items()
            if of == name and labels.items() <= dict(found).items()
        ]

    def called(self, method: str, code: str = "OK") -> float:
        """Calls of a method that ended so."""
        return self.total("grpc_server_handled_total", grpc_method=method, grpc_code=code)


def scraped(url: str) -> Page:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        return Page(answer.read().decode())


@contextmanager
def http_port(metrics: WorkerMetrics, phase: Phase = Phase.SERVING, /, **settings: Any) -> Iterator[str]:
    """The URL of a server's HTTP port."""
    readiness = Readiness(metrics.all)
    readiness.phase = phase
    port = HttpPort(Settings(http="0", **settings), metrics.all, readiness)
    url = port.start()
    try:
        yield url
    finally:
        port.stop()

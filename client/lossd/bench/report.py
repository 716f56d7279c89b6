"""The result of a bench, and the same as a JSON object and as lines of CSV."""

from __future__ import annotations

import csv
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from lossd.bench.measured import Measured
from lossd.bench.workload import Mix
from lossd.info import ServerInfo
from lossd.version import __version__

_LIBRARIES = ("grpcio", "protobuf", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """how: how requests were sent, in words. address: as it was given. levels: in the order of their load.

    searching: whether this was a search for a rate with p99 below `p99_s`; best_rate: the highest one found, 0 for
    none. warm_wrong: wrong answers before the first level. differing: right answers that differ in their bits from the
    first answer to the same request. sentences: the first message of each status that failed.
    """

    mix: Mix
    how: str
    address: str
    server: ServerInfo
    levels: list[Measured]
    searching: bool = False
    p99_s: float = math.inf
    best_rate: float = 0.0
    warm_wrong: int = 0
    differing: int = 0
    sentences: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def embedded(self) -> bool:
        return self.address == "embedded"

    @property
    def right(self) -> bool:
        """Whether no answer was wrong and no request failed. In a search requests may fail: it tries high rates."""
        if self.warm_wrong or any(level.wrong for level in self.levels):
            return False
        return self.searching or not any(level.failed for level in self.levels)


def machine() -> dict[str, str | int]:
    """The generator's machine and versions."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    return found | {library: version(library) for library in _LIBRARIES} | {"lossd": __version__}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def bench_document(report: BenchReport) -> dict[str, Any]:
    """The object that --json writes. A number is null where nothing was measured."""
    server = report.server
    levels = []
    for level in report.levels:
        row: dict[str, Any] = {name: _number(value) for name, value in level.row().items()}
        levels.append(row | {"failed_by_status": dict(level.failed)})
    return {
        "mix": asdict(report.mix),
        "how": report.how,
        "server": {
            "address": report.address,
            "version": server.version,
            "device": server.device,
            "backends": list(server.backends),
            "workers": server.workers,
        },
        "generator": machine(),
        "levels": levels,
        "search": {"p99_ms": 1e3 * report.p99_s, "best_rate": report.best_rate} if report.searching else None,
        "wrong_before_the_first_level": report.warm_wrong,
        "right_with_other_bits": report.differing,
        "sentences": dict(report.sentences),
        "interrupted": report.interrupted,
    }


def _number(value: str | int | float) -> str | int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(report: BenchReport, file: TextIO) -> None:
    """A header and a line for each level; a cell is empty where nothing was measured."""
    if not report.levels:
        return
    rows = [level.row() for level in report.levels]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if _number(value) is None else value for name, value in row.items()})

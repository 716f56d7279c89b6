"""The report as tables and notes: with colours on a terminal that has rich, as plain text elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from lossd.bench.measured import BUSY, PERCENTILES, Measured
from lossd.bench.report import BenchReport, machine
from lossd.bench.tally import STAGES, WRONG
from lossd.bench.windows import Verdict
from lossd.extras import have

LOUD = "THE GENERATOR IS THE BOTTLENECK"


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]


def show_levels(report: BenchReport) -> None:
    """Prints to stdout."""
    rich = have("rich.console") if sys.stdout.isatty() else None
    console = rich.Console(highlight=False, markup=False, emoji=False) if rich else None

    def line(text: str, style: str = "") -> None:
        if console is None:
            print(text)
        else:
            console.print(text, style=style, soft_wrap=True)

    for text in bench_title(report):
        line(text, "bold")
    for table in tables(report):
        line("")
        line(table.title, "bold")
        head, *rows = level_lines(table)
        line(head, "dim")
        for row, level in zip(rows, report.levels, strict=True):
            line(row, "" if level.verdict is Verdict.STEADY else "yellow")
    line("")
    for note in notes(report):
        line(note, "red" if note.startswith(LOUD) or note.split()[0] in report.sentences else "")


def tables(report: BenchReport) -> list[Table]:
    """Three tables, narrow enough for a terminal; none if no level was run."""
    if not report.levels:
        return []
    load = "rate" if report.levels[0].load.open else "concurrency"
    stages = [stage for stage in STAGES if stage != "late" or load == "rate"]
    rows = [
        (level, {name: value for name, value in level.row().items() if isinstance(value, int | float)})
        for level in report.levels
    ]
    return [
        Table(
            "throughput",
            [load, "requests/s", "rows/s", "elements/s", "GB/s", "failed", "generator", ""],
            [_throughput(level, row) for level, row in rows],
        ),
        Table(
            "latency, ms",
            [load, *(name.replace("_", ".") for name in PERCENTILES), "max"],
            [_numbers(level, row, [f"{name}_ms" for name in (*PERCENTILES, "max")]) for level, row in rows],
        ),
        Table(
            "where the time of a request went, mean ms; mean batch size, in requests and rows",
            [load, *stages, "total", "batch", "rows"],
            [
                _numbers(level, row, [*(f"{name}_ms" for name in (*stages, "mean")), "batch_requests", "batch_rows"])
                for level, row in rows
            ],
        ),
    ]


def _throughput(level: Measured, row: Mapping[str, float]) -> list[str]:
    return [
        level.load.name,
        plain(row["requests_per_s"]),
        short(row["rows_per_s"]),
        short(row["elements_per_s"]),
        plain(row["gb_per_s"]),
        f"{level.failed.total():,}" if level.failed else "-",
        f"{level.generator_share:.0%}" if math.isfinite(level.generator_share) else "-",
        "" if level.verdict is Verdict.STEADY else level.verdict.value,
    ]


def _numbers(level: Measured, row: Mapping[str, float], columns: list[str]) -> list[str]:
    return [level.load.name, *(plain(row[column]) for column in columns)]


def plain(value: float) -> str:
    """Three significant digits, at most four decimals; from 1,000 on, all digits."""
    if not math.isfinite(value):
        return "-"
    value = float(f"{value:.3g}") if value < 1000 else value
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{min(4, 2 - math.floor(math.log10(value)))}f}"


def short(value: float) -> str:
    """Three significant digits and k, M, G or T."""
    if not math.isfinite(value):
        return "-"
    for unit in ("", "k", "M", "G"):
        if float(f"{value:.3g}") < 1000:
            return f"{plain(value)}{unit}"
        value /= 1e3
    return f"{plain(value)}T"


def bench_title(report: BenchReport) -> list[str]:
    return [report.mix.title, f"{report.address} by {report.how}"]


def notes(report: BenchReport) -> list[str]:
    """Sentences below the tables: failures, warnings, the search's result, versions."""
    found = []
    for status, sentence in report.sentences.items():
        count = sum(level.failed[status] for level in report.levels) + (report.warm_wrong if status == WRONG else 0)
        found.append(f"{status} {count:,}×, first: {sentence}")
    unsteady = dict.fromkeys(level.load.name for level in report.levels if level.verdict is Verdict.NOT_STEADY)
    if unsteady:
        found.append(
            f"not steady at {', '.join(unsteady)}: the last three windows differ by more than 10 % (increase "
            "--max-s or --window-s)"
        )
    lost = dict.fromkeys(level.load.name for level in report.levels if not level.kept)
    if lost and not report.searching:
        found.append(f"rate not reached at {', '.join(lost)}: fewer requests were answered than were due")
    busy = [level.load.name for level in report.levels if level.generator_share >= BUSY]
    if busy:
        found.append(
            f"{LOUD} at {', '.join(busy)}: its thread used {BUSY:.0%} of a core or more, so "
            "the server may be able to do more (use --raw, which costs less, or run several benches at once)"
        )
    if report.differing:
        found.append(
            f"{report.differing:,} right answers differ in their last bits from the first answer to the same request: "
            "are there several servers on different machines?"
        )
    if report.embedded:
        found.append(
            "server and load generator shared one process: to measure what a server can do, start `lossd serve` and "
            "give its address with --server"
        )
    if report.searching:
        bound = f"a p99 of at most {1e3 * report.p99_s:g} ms"
        highest = f"highest rate with {bound}: {report.best_rate:,.4g} requests/s"
        found.append(highest if report.best_rate else f"no rate has {bound}")
    if report.interrupted:
        found.append("interrupted")
    found.append(_versions(report))
    return found


def _versions(report: BenchReport) -> str:
    here, server = machine(), report.server
    workers = f", {server.workers} workers" if server.workers > 1 else ""
    return (
        f"{here['processor']}, {here['cores']} cores, {here['system']}; Python {here['python']}, grpcio "
        f"{here['grpcio']}, numpy {here['numpy']}, lossd {here['lossd']}; server {server.version} on "
        f"{server.device}{workers}"
    )


def level_lines(table: Table) -> list[str]:
    """The lines of a table, its cells aligned to the right."""
    cells = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    found = []
    for line in cells:
        # The verdict is text and the last column, so it is not padded.
        aligned = zip(line, widths, table.columns, strict=True)
        found.append("  ".join(f"{cell:>{width}}" if name else cell for cell, width, name in aligned).rstrip())
    return [f"  {line}" for line in found]

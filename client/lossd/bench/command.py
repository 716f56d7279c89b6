"""`lossd bench`: from arguments to an exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossd.bench.arguments import bench_plan, parse_arguments
from lossd.command_error import CommandError
from lossd.command_line.error_text import error_text

if TYPE_CHECKING:
    from lossd.bench.report import BenchReport


def main(argv: Sequence[str]) -> int:
    """Runs the command; the process's exit status."""
    parsed = parse_arguments(argv)
    import lossd
    from lossd.bench.plot import LoadPlot
    from lossd.bench.progress import Progress
    from lossd.bench.run import run_bench

    progress = Progress()
    try:
        picture = LoadPlot(parsed.plot) if parsed.plot else None
        _check_folders(parsed)
        report = run_bench(bench_plan(parsed), progress)
        progress.clear()
        drawn = picture is not None and bool(report.levels)
        if picture is not None and drawn:
            picture.draw(report)
        _tell(report, parsed)
    except (CommandError, lossd.Error) as error:
        progress.clear()
        print(f"lossd bench: {error_text(error)}", file=sys.stderr)
        return 1
    for path in (parsed.csv, parsed.json, parsed.plot if drawn else None):
        if path and path != "-":
            print(f"lossd bench: wrote {path}", file=sys.stderr)
    if report.interrupted:
        return 130
    return 0 if report.right else 1


def _check_folders(parsed: argparse.Namespace) -> None:
    """Raises CommandError before anything is measured, rather than minutes later when the files are written."""
    for path in (parsed.csv, parsed.json):
        if path and path != "-" and not Path(path).parent.is_dir():
            raise CommandError(f"{path}: no folder {Path(path).parent}")


def _tell(report: BenchReport, parsed: argparse.Namespace) -> None:
    from lossd.bench.report import bench_document, write_csv
    from lossd.bench.table import show_levels

    written = json.dumps(bench_document(report), indent=2, allow_nan=False)
    try:
        if parsed.json and parsed.json != "-":
            Path(parsed.json).write_text(written + "\n", encoding="utf-8")
        if parsed.csv:
            with Path(parsed.csv).open("w", encoding="utf-8", newline="") as file:
                write_csv(report, file)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror or error}") from None
    if parsed.json == "-":
        print(written)
    else:
        show_levels(report)

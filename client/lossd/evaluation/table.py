"""The report as a table: with colours on a terminal that has rich, as plain text elsewhere."""

from __future__ import annotations

import math
import sys
from typing import Any

from lossd.evaluation.report import LossReport
from lossd.extras import have

Line = tuple[str, str, str]


def show_loss(report: LossReport) -> None:
    """Prints to stdout."""
    rich = have("rich.console") if sys.stdout.isatty() else None
    worst = [[_cell(value) for value in row.values()] for row in report.worst]
    if rich is None:
        _show_plain(loss_title(report), loss_lines(report), worst, report)
    else:
        _show_rich(rich.Console(), loss_title(report), loss_lines(report), worst, report)


def loss_title(report: LossReport) -> str:
    files = [report.question.sources[role].place.text for role in report.question.operands]
    return f"{report.question.method} of {' against '.join(files)}"


def loss_lines(report: LossReport) -> list[Line]:
    """Name, value, and a note: a unit or what the value counts."""
    question, noun = report.question, report.noun
    # A measure is NaN where no row was kept; the counts below show that.
    measures = {name: value for name, value in report.measures.items() if not math.isnan(value)}
    found = [*_loss_lines(report)]
    if "perplexity" in measures:
        found.append(("perplexity", f"{measures['perplexity']:.6g}", "equally likely classes"))
    if "accuracy" in measures:
        of = f"{measures['correct']:,} of {report.summary.count:,} {noun}"
        found.append(("accuracy", f"{measures['accuracy']:.2%}", of))
    if "mean_entropy" in measures:
        found.append(("mean entropy", f"{measures['mean_entropy']:.6g}", f"{question.unit}, of the predictions"))
    if "calibration_error" in measures:
        found.append(("calibration error", f"{measures['calibration_error']:.2%}", "expected, 15 bins"))
    found.append((noun, f"{report.losses:,}", f"{report.ignored:,} ignored" if report.ignored else ""))
    if report.summary.weight_sum != report.summary.count and question.reduction == "mean":
        found.append(("weight", f"{report.summary.weight_sum:.6g}", "the mean's denominator"))
    found += _table_lines(report)
    if report.first_nan is not None:
        found.append(("first NaN", str(report.first_nan), f"{noun[:-1]}, counted from 0"))
    return found


def _loss_lines(report: LossReport) -> list[Line]:
    import numpy as np

    unit = report.question.unit
    if isinstance(report.loss, float):
        return [("loss", f"{report.loss:.9g}", f"{unit}, {report.question.reduction}")]
    if not report.loss.size:
        return [("losses", "none", "")]
    losses = np.sort(report.loss.astype(np.float64), axis=None)  # NaN last, as everything is then
    low, high = float(losses[(losses.size - 1) // 2]), float(losses[losses.size // 2])
    median = low if low == high else (low + high) / 2  # infinities have no difference
    found = {"least loss": float(losses[0]), "median loss": median, "greatest loss": float(losses[-1])}
    if math.isnan(losses[-1]):
        found = dict.fromkeys(found, math.nan)
    return [(name, f"{value:.9g}", unit) for name, value in found.items()]


def _table_lines(report: LossReport) -> list[Line]:
    """Which first rows were taken for headers, and which columns were left out: each file once."""
    found: dict[Line, None] = {}
    for source in report.question.sources.values():
        path = str(source.place.path)
        if source.header is not None:
            found[("header", "first row" if source.header else "none", f"of {path}")] = None
        if source.left_out:
            found[("left out", "1 column", f"of {path}: the index of a data frame, which has no name")] = None
    return list(found)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return str(value)


def _show_plain(title: str, found: list[Line], worst: list[list[str]], report: LossReport) -> None:
    print(title)
    wide = max(len(value) for _, value, _ in found)
    for name, value, note in found:
        print(f"  {name:<18} {value:>{wide}}  {note}".rstrip())
    if worst:
        table = [list(report.worst[0]), *worst]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        print(f"greatest losses, {report.noun} counted from 0")
        for row in table:
            print("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def _show_rich(console: Any, title: str, found: list[Line], worst: list[list[str]], report: LossReport) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), title_justify="left", box=None, show_header=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    for line in found:
        table.add_row(*map(Text, line))
    console.print(table)
    if worst:
        title = f"greatest losses, {report.noun} counted from 0"
        rows = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
        for name in report.worst[0]:
            rows.add_column(name, justify="right")
        for row in worst:
            rows.add_row(*map(Text, row))
        console.print(rows)

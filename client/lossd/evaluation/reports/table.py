"""The report as a table: with colours on a terminal that has rich, as plain text elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from lossd.evaluation.reports.lines import Line, Listing, cell, listings, loss_lines, loss_title
from lossd.evaluation.reports.report import LossReport
from lossd.extras import have

CLASSES = 20


def show_loss(report: LossReport) -> None:
    """Prints to stdout."""
    rich = have("rich.console") if sys.stdout.isatty() else None
    tables = [*listings(report, CLASSES)]
    if rich is None:
        _show_plain(loss_title(report), loss_lines(report), tables)
    else:
        _show_rich(rich.Console(), loss_title(report), loss_lines(report), tables)


def _show_plain(title: str, found: list[Line], tables: list[Listing]) -> None:
    print(title)
    wide = max(len(value) for _, value, _ in found)
    for name, value, note in found:
        print(f"  {name:<18} {value:>{wide}}  {note}".rstrip())
    for heading, rows in tables:
        table = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        print(heading)
        for row in table:
            print("  " + "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)))


def _show_rich(console: Any, title: str, found: list[Line], tables: list[Listing]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title, "bold"), title_justify="left", box=None, show_header=False, padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right", style="bold")
    grid.add_column(style="dim")
    for line in found:
        grid.add_row(*map(Text, line))
    console.print(grid)
    for heading, rows in tables:
        grid = Table(title=Text(heading), title_justify="left", box=SIMPLE_HEAD)
        for name in rows[0]:
            grid.add_column(name, justify="right")
        for row in rows:
            grid.add_row(*(Text(cell(value)) for value in row.values()))
        console.print(grid)

"""A job's summary: the report in Markdown, below those of the steps before."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from lossd.evaluation.reports.lines import cell, listings, loss_lines, loss_title
from lossd.evaluation.reports.report import LossReport

CLASSES = 20
_ESCAPES = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "*": "\\*", "_": "\\_", "`": "\\`", "\n": " "}


def write_summary(path: str, report: LossReport) -> None:
    """A file that cannot be written is said on stderr, and fails nothing."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in summary_lines(report))
    except OSError as error:
        print(f"lossd eval: warning: no job summary: {path}: {error.strerror or error}", file=sys.stderr)


def summary_lines(report: LossReport) -> Iterator[str]:
    yield f"### {'❌' if report.failures else '✅'} {_text(loss_title(report))}"
    yield ""
    for sentence in report.failures:
        yield f"**{_text(sentence)}**"
        yield ""
    yield from _table(("", "", ""), loss_lines(report))
    for sentence in report.warnings:
        yield f"> ⚠️ {_text(sentence)}"
        yield ""
    for title, rows in listings(report, CLASSES):
        yield f"<details><summary>{title}</summary>"
        yield ""
        yield from _table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])
        yield "</details>"
        yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_text, head))} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"
    yield ""


def _text(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)

"""The report as one HTML file: no script, no other file, light and dark as the reader's system is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from lossd.command_error import CommandError
from lossd.evaluation.reports.charts import histogram, reliability
from lossd.evaluation.reports.lines import cell, difference_lines, listings, loss_title, measure_lines, origin_lines
from lossd.evaluation.reports.report import LossReport

CLASSES = 100
_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def write_html(path: str, report: LossReport) -> None:
    try:
        Path(path).write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def page(report: LossReport) -> str:
    title = escape(loss_title(report))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_body(report))
        + "\n</main>\n</body>\n</html>\n"
    )


def _body(report: LossReport) -> Iterator[str]:
    yield f"<h1>{escape(report.question.method.replace('_', ' '))}</h1>"
    files = [report.question.sources[role].place.text for role in report.question.operands]
    yield f'<p class="files">{" against ".join(f"<code>{escape(name)}</code>" for name in files)}</p>'
    yield '<dl class="measures">'
    for name, value, note in measure_lines(report):
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
    yield "</dl>"
    yield from (f'<p class="failure">{escape(sentence)}</p>' for sentence in report.failures)
    yield from (f'<p class="warning">{escape(sentence)}</p>' for sentence in report.warnings)
    for name, value, note in difference_lines(report):
        verdict = report.against.verdict if report.against is not None else ""
        strong = f'<strong class="{verdict}">{escape(value)}</strong>'
        yield f'<p class="compared">{escape(name)} {strong} {escape(note)}</p>'
    yield '<div class="charts">'
    yield from _charts(report)
    yield "</div>"
    yield '<div class="lists">'
    for title, rows in listings(report, CLASSES):
        yield f"<section><h2>{escape(title[0].upper() + title[1:])}</h2>"
        yield from _table(
            list(rows[0]), [[cell(value) for value in row.values()] for row in rows], "numbers", _bars(rows)
        )
        yield "</section>"
    yield "</div>"
    yield "<h2>Where this comes from</h2>"
    yield from _table([], list(_origin(report)), "origin")


def _charts(report: LossReport) -> Iterator[str]:
    sample = report.sample if report.sample is not None else np.empty(0, np.float32)
    losses = sample[np.isfinite(sample)].astype(np.float64)
    left_out = f"; {len(sample) - len(losses):,} are NaN or infinite" if len(losses) < len(sample) else ""
    if losses.size:
        caption = f"The losses of {len(sample):,} {report.noun}{left_out}"
        yield _figure(histogram(losses, report.question.unit, report.noun), caption)
    found = report.reliability
    if found is not None and found.counts.any():
        caption = "How often predictions of a confidence came true; on the line they are well calibrated"
        yield _figure(reliability(found), caption)


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _origin(report: LossReport) -> Iterator[Sequence[str]]:
    question = report.question
    for role, source in question.sources.items():
        yield role.replace("_", " "), source.place.text, f"{source.dtype.name}, shape {list(source.shape)}"
    yield from origin_lines(report)
    for name, value in question.options.items():
        yield name.replace("_", " "), f"{value}", ""
    for name, value in report.versions.items():
        yield name, value, ""


def _bars(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A bar for each row's loss, the longest for the greatest; none where one is not a number of at least 0."""
    losses = [row["loss"] for row in rows]
    if not all(math.isfinite(loss) and loss >= 0 for loss in losses) or not any(losses):
        return []
    drawn = (f'<rect class="bar" width="{100 * loss / max(losses):.1f}" height="10"/>' for loss in losses)
    return [f'<td><svg class="share" viewBox="0 0 100 10" aria-hidden="true">{bar}</svg></td>' for bar in drawn]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], name: str, last: Sequence[str] = ()) -> Iterator[str]:
    """last: a further cell of each row, as it is, without a name."""
    yield f'<div class="wide"><table class="{name}">'
    if head:
        columns = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
        yield f"<thead><tr>{columns}{'<td></td>' if last else ''}</tr></thead>"
    yield "<tbody>"
    for i, (first, *rest) in enumerate(rows):
        cells = "".join(f"<td>{escape(one)}</td>" for one in rest) + (last[i] if last else "")
        yield f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    yield "</tbody></table></div>"

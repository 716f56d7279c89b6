"""The lines of a report: names, values and notes, as a table, a page and a job's summary show them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lossd.evaluation.comparing.comparison import Comparison
from lossd.evaluation.per_class import worst_first
from lossd.evaluation.reports.report import LossReport

# Name, value, and a note: a unit or what the value counts.
Line = tuple[str, str, str]
# Title and rows.
Listing = tuple[str, list[dict[str, Any]]]
_USUAL = {"csv": ",", "tsv": "\t"}
_SEPARATORS = {"\t": "tab", " ": "space"}


def loss_lines(report: LossReport) -> list[Line]:
    """All of them."""
    return [*measure_lines(report), *difference_lines(report), *origin_lines(report)]


def loss_title(report: LossReport) -> str:
    files = [report.question.sources[role].place.text for role in report.question.operands]
    return f"{report.question.method} of {' against '.join(files)}"


def measure_lines(report: LossReport) -> list[Line]:
    """The loss and what was measured beside it."""
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
    if report.first_nan is not None:
        found.append(("first NaN", str(report.first_nan), f"{noun[:-1]}, counted from 0"))
    return found


def difference_lines(report: LossReport) -> list[Line]:
    """To another run, if there is one."""
    if report.against is None:
        return []
    return [("difference", f"{report.against.difference:+.6g}", _against(report.against, report.question.unit))]


def origin_lines(report: LossReport) -> list[Line]:
    """How the files were read, and by which servers they were computed."""
    found = _table_lines(report)
    for one in report.servers:
        away = (f", went away {_times(one.lost)}" if one.version else ", never there") if one.lost else ""
        found.append(("server", f"{one.blocks:,} blocks", f"{one.items:,} rows at {one.address}{away}"))
    return found


def listings(report: LossReport, most_classes: int) -> Iterator[Listing]:
    """What is listed below: classes, of which all are in the JSON object, and rows."""
    if report.classes:
        shown = worst_first(report.classes, most_classes)
        of = f" ({len(shown)} of {len(report.classes):,})" if len(shown) < len(report.classes) else ""
        told = [{name: f"{one:.2%}" if name == "accuracy" else one for name, one in row.items()} for row in shown]
        yield f"by class, greatest mean loss first{of}", told
    if report.worst:
        yield f"greatest losses, {report.noun} counted from 0", report.worst


def _loss_lines(report: LossReport) -> list[Line]:
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
    """Which first rows were taken for headers, unusual separators, and which columns were left out.

    Each once, with the files that it holds for.
    """
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for several in report.question.sources.values():
        for source in several.files:
            name = source.place.name
            if source.header is not None:
                found.setdefault(("header", "first row" if source.header else "none", ""), {})[name] = None
            if source.separator not in (None, _USUAL.get(source.place.suffix)):
                shown = _SEPARATORS.get(str(source.separator), str(source.separator))
                found.setdefault(("separator", shown, ""), {})[name] = None
            if source.left_out:
                note = ": the index of a data frame, which has no name"
                found.setdefault(("left out", "1 column", note), {})[name] = None
    return [(what, value, f"of {_these(list(names))}{note}") for (what, value, note), names in found.items()]


def _these(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} files, {names[0]} … {names[-1]}"


def _against(found: Comparison, unit: str) -> str:
    than = f"{unit}, against {found.loss:.9g} in {found.file}"
    if found.low is None or found.high is None:
        return f"{than}; no confidence interval: {found.note}"
    paired = "paired" if found.paired else f"not paired: {found.note}"
    return f"{than}; 95 % from {found.low:+.4g} to {found.high:+.4g} ({paired}): {found.verdict}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return str(value)

"""A run's file: what --json prints, with the sums of its rows. --save writes it, --against reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lossd.command_error import CommandError
from lossd.evaluation.comparing.comparison import SavedRun
from lossd.evaluation.comparing.row_sums import SumsOfRows
from lossd.evaluation.question import Question
from lossd.evaluation.reports.report import LossReport, json_value, loss_document

# Of a number that JSON lacks, as protobuf has it.
_TEXTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def save_run(path: str, report: LossReport) -> None:
    document = loss_document(report)
    found = report.row_sums
    if found is not None:
        document["rows"] = {
            "items": found.items,
            "loss_sums": json_value(found.loss_sums.tolist()),
            "counts": found.counts.tolist(),
            "target_sha256": found.target_sha256,
        }
    try:
        Path(path).write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def read_run(path: str) -> SavedRun:
    """Raises CommandError for what is no such file."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(f"{path}: is not JSON ({error}); lossd eval --save writes such a file") from None
    try:
        return _parsed(path, document)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CommandError(f"{path}: is not what lossd eval --save or --json writes") from None


def _parsed(path: str, document: Any) -> SavedRun:
    if document["reduction"] != "mean":
        raise CommandError(
            f"{path}: its loss is not a mean (--reduction {document['reduction']}), and means are compared"
        )
    summary, rows = document["summary"], document.get("rows")
    row_sums = None
    if rows is not None:
        sums, counts = np.array([_number(one) for one in rows["loss_sums"]]), np.array(rows["counts"], np.int64)
        if sums.shape != counts.shape or sums.ndim != 1:
            raise ValueError
        row_sums = SumsOfRows(int(rows["items"]), sums, counts, str(rows["target_sha256"]))
    return SavedRun(
        file=path,
        method=str(document["method"]),
        unit=str(document["unit"]),
        loss=_number(document["loss"]),
        weighted=_number(summary["weight_sum"]) != summary["count"],
        options=dict(document["options"]),
        row_sums=row_sums,
    )


def _number(value: Any) -> float:
    return _TEXTS[value] if isinstance(value, str) else float(value)


def check_comparable(question: Question, other: SavedRun) -> None:
    """Raises CommandError where the two losses are not of one kind."""
    for what, ours, theirs in (("loss", question.method, other.method), ("unit", question.unit, other.unit)):
        if ours != theirs:
            raise CommandError(f"{other.file}: its {what} is {theirs}, this run's is {ours}: they cannot be compared")


def differing_options(question: Question, other: SavedRun) -> str:
    """A sentence on options that are not the same in both, or ""."""
    ours, theirs = question.options, other.options
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    told = [f"{name} is {_shown(ours.get(name))} here and {_shown(theirs.get(name))} there" for name in names]
    return f"{other.file} was computed with other options: {', '.join(told)}" if told else ""


def _shown(value: Any) -> str:
    return "not given" if value is None else f"{value}"

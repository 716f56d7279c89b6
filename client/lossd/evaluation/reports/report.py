"""The result of an evaluation, and the same as one JSON object."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.evaluation.comparing.comparison import Comparison
from lossd.evaluation.comparing.row_sums import SumsOfRows
from lossd.evaluation.measures import Reliability
from lossd.evaluation.question import Question
from lossd.evaluation.readers.source import Source
from lossd.results import Summary


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several servers did. items: of the input, in its blocks. lost: how often it went away."""

    address: str
    version: str
    device: str
    blocks: int
    items: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossReport:
    """loss: a number; with reduction none, an array of all losses. losses: their number, ignored ones included.
    worst: the rows of greatest loss. sample: losses for a histogram. first_nan: the index of the first row whose loss
    is NaN. warnings: sentences on numbers that do not look right. servers: empty where there was one.
    classes: a dict for each class: class, count, loss, accuracy. row_sums, against: for runs that are compared.
    failures: why the exit status is that of a gate, a sentence for each gate that fails.
    """

    question: Question
    loss: float | npt.NDArray[Any]
    summary: Summary
    losses: int
    measures: dict[str, Any]
    worst: list[dict[str, Any]] = field(default_factory=list)
    first_nan: int | list[int] | None = None
    sample: npt.NDArray[np.float32] | None = None
    reliability: Reliability | None = None
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    servers: tuple[Share, ...] = ()
    classes: list[dict[str, Any]] = field(default_factory=list)
    row_sums: SumsOfRows | None = None
    against: Comparison | None = None
    failures: tuple[str, ...] = ()

    @property
    def ignored(self) -> int:
        return self.losses - self.summary.count

    @property
    def greatest(self) -> float:
        """What --fail-above is compared with: the loss, or the greatest loss with reduction none; NaN if any is NaN."""
        if isinstance(self.loss, float):
            return self.loss
        return float(np.max(self.loss)) if self.loss.size else math.nan

    @property
    def noun(self) -> str:
        return "elements" if self.question.elementwise else "rows"


def loss_document(report: LossReport) -> dict[str, Any]:
    """The object that --json prints. Numbers that JSON lacks are "NaN", "Infinity", "-Infinity", as in protobuf."""
    question = report.question
    loss = report.loss if isinstance(report.loss, float) else report.loss.tolist()
    found: dict[str, Any] = {
        "method": question.method,
        "loss": loss,
        "reduction": question.reduction,
        "unit": question.unit,
        "summary": asdict(report.summary),
        "measures": {report.noun: report.losses, "ignored": report.ignored, **report.measures},
        "worst": report.worst,
        "first_nan": report.first_nan,
        "options": dict(question.options),
        "files": {role: _file(one) for role, one in question.sources.items()},
        "versions": report.versions,
    }
    if report.question.per_class:
        found["classes"] = report.classes
    if report.servers:
        found["servers"] = [asdict(one) for one in report.servers]
    if report.against is not None:
        found["against"] = asdict(report.against)
    if report.failures:
        found["failures"] = [*report.failures]
    document: dict[str, Any] = json_value(found)
    return document


def _file(source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {"file": source.place.text, "shape": list(source.shape), "dtype": source.dtype.name}
    if source.header is not None:
        found["header"] = source.header
    if source.separator not in (None, ","):
        found["separator"] = source.separator
    if source.shards:
        found["files"] = [{"file": one.place.text, "items": one.items} for one in source.shards]
    return found


def json_value(value: Any) -> Any:
    """The same with texts for the numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: json_value(one) for key, one in value.items()}
    if isinstance(value, list):
        return [json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value

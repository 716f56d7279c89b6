"""Comparison of two runs: the difference of their mean losses, and how far it may be chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lossd.evaluation.comparing.bootstrap import difference_interval
from lossd.evaluation.comparing.row_sums import SumsOfRows


@dataclass(frozen=True, slots=True)
class SavedRun:
    """Another run, as its file has it. options: of the loss. row_sums: None where they were not saved."""

    file: str
    method: str
    unit: str
    loss: float
    weighted: bool
    options: dict[str, Any]
    row_sums: SumsOfRows | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """difference: this mean loss less the other; less than 0 is better. low, high: its 95 % confidence interval, None
    where there is none, for the reason in `note`. paired: whether that is of the differences of the same rows.
    """

    file: str
    loss: float
    difference: float
    low: float | None
    high: float | None
    paired: bool
    note: str

    @property
    def verdict(self) -> str:
        """ "better", "worse", or that the difference may be chance; "" where nobody knows."""
        if self.low is None or self.high is None:
            return ""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "may be chance"


def compared(loss: float, weighted: bool, row_sums: SumsOfRows | None, other: SavedRun) -> Comparison:
    """weighted: whether the mean of either run is one with weights, of which nothing is known by row."""
    note = ""
    interval = None
    if other.row_sums is None or row_sums is None:
        note = f"{other.file} has no sums of its rows, which --save keeps"
    elif weighted or other.weighted:
        note = "with weights there is none"
    else:
        interval = difference_interval(row_sums, other.row_sums)
        if interval is None:
            note = "there are fewer than two rows, or losses that are not finite"
        elif not interval.paired:
            note = _why_apart(row_sums, other.row_sums)
    difference = loss - other.loss if math.isfinite(loss) and math.isfinite(other.loss) else math.nan
    return Comparison(
        other.file,
        other.loss,
        difference,
        interval.low if interval else None,
        interval.high if interval else None,
        interval is not None and interval.paired,
        note,
    )


def _why_apart(one: SumsOfRows, other: SumsOfRows) -> str:
    if one.items != other.items:
        return f"the other run has {other.items:,} rows, this one {one.items:,}"
    if one.target_sha256 != other.target_sha256:
        return "the targets of the runs differ"
    return "the runs ignore different rows"

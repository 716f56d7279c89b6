"""The plot of an evaluation: a histogram of the losses, a reliability diagram, and the worst rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lossd.command_error import CommandError
from lossd.evaluation.measures import Reliability
from lossd.evaluation.reports.histogram import bin_edges
from lossd.evaluation.reports.report import LossReport
from lossd.extras import need

BLUE, ORANGE, RED, GREY = "#3b6ea5", "#d98032", "#b3423a", "#777777"
WORST = 10


class LossPlot:
    """The file to draw. Raises CommandError at once for a missing library, an unknown suffix or a missing folder."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        figure = need("matplotlib.figure", "--plot")
        need("matplotlib.backends.backend_agg", "--plot")
        self._figure: Any = figure.Figure(figsize=(11, 4.2), layout="constrained", dpi=150)
        suffixes = self._figure.canvas.get_supported_filetypes()
        if self._path.suffix.lstrip(".").lower() not in suffixes:
            raise CommandError(f"{path}: unsupported plot format; expected {', '.join(sorted(suffixes))}")
        if not self._path.parent.is_dir():
            raise CommandError(f"{path}: no folder {self._path.parent}")

    def draw(self, report: LossReport) -> None:
        """Writes the file."""
        reliability = report.reliability if report.reliability is not None and report.reliability.counts.any() else None
        panels = 1 + (reliability is not None) + bool(report.worst)
        self._figure.set_size_inches(1.5 + 4.4 * panels, 4.2)
        axes = iter(np.atleast_1d(self._figure.subplots(1, panels)))
        self._figure.suptitle(f"{_files(report)}: {_headline(report)}", fontsize=11)
        _histogram(next(axes), report)
        if reliability is not None:
            _reliability(next(axes), reliability, binary=report.question.elementwise)
        if report.worst:
            _worst(next(axes), report)
        try:
            self._figure.savefig(self._path)
        except OSError as error:
            raise CommandError(f"{self._path}: {error.strerror or error}") from None


def _files(report: LossReport) -> str:
    """The title: names of files without their folders, which would not fit."""
    sources = [report.question.sources[role].place for role in report.question.operands]
    names = [one.path.name + (f":{one.key}" if one.key else "") for one in sources]
    return f"{report.question.method} of {' against '.join(names)}"


def _headline(report: LossReport) -> str:
    unit, count = report.question.unit, f"{report.summary.count:,} {report.noun}"
    if isinstance(report.loss, float):
        return f"{report.loss:.6g} {unit} ({report.question.reduction} of {count})"
    return count


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _histogram(axes: Any, report: LossReport) -> None:
    _plain(axes)
    sample = report.sample if report.sample is not None else np.empty(0, np.float32)
    losses = sample[np.isfinite(sample)].astype(np.float64)
    axes.set_title(f"the losses of {len(sample):,} {report.noun}", fontsize=10, pad=14)
    axes.set_ylabel(report.noun, fontsize=9)
    left_out = [
        f"{count:,} {what}"
        for what, count in (("NaN", np.isnan(sample).sum()), ("infinite", np.isinf(sample).sum()))
        if count
    ]
    if not losses.size:
        axes.text(0.5, 0.5, "no finite loss", ha="center", transform=axes.transAxes, color=GREY)
        axes.set_xlabel(", ".join(left_out), fontsize=9)
        return
    edges, logarithmic, zeros = bin_edges(losses)
    axes.hist(losses, edges, color=BLUE)
    if logarithmic:
        axes.set_xscale("log")
    if zeros:
        left_out.append(f"{zeros:,} of loss 0")
    axes.set_xlabel(report.question.unit + (f"; not drawn: {', '.join(left_out)}" if left_out else ""), fontsize=9)
    mean = float(losses.mean())
    if not logarithmic or mean > 0:
        axes.axvline(mean, color=ORANGE, linewidth=1.2)
        name = {"s": f" mean {mean:.3g}", "fontsize": 8, "color": ORANGE, "va": "bottom", "ha": "center"}
        axes.text(mean, 1.0, **name, transform=axes.get_xaxis_transform())


def _reliability(axes: Any, found: Reliability, *, binary: bool) -> None:
    """A dot for each bin at (mean confidence, frequency), with the bin's share as area; gaps to the diagonal in red."""
    _plain(axes)
    some = found.counts > 0
    confidence, frequency = found.confidence[some], found.frequency[some]
    share = found.counts[some] / max(1, found.counts.sum())
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.vlines(confidence, confidence, frequency, color=RED, linewidth=2, alpha=0.7, zorder=2)
    axes.scatter(confidence, frequency, 14 + 400 * share, color=BLUE, edgecolor="white", zorder=3, clip_on=False)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_title(f"reliability: expected calibration error {found.error:.2%}", fontsize=10)
    axes.set_xlabel(f"{'probability' if binary else 'confidence'} (area: share of predictions)", fontsize=9)
    axes.set_ylabel("how often it came true", fontsize=9)
    if not binary:
        axes.text(0.03, 0.93, "under-confident", fontsize=8, color=GREY)
        axes.text(0.97, 0.03, "over-confident", fontsize=8, color=GREY, ha="right")


def _worst(axes: Any, report: LossReport) -> None:
    _plain(axes)
    rows = report.worst[:WORST]
    losses = np.array([row["loss"] for row in rows])
    finite = np.where(np.isfinite(losses), losses, np.nan)
    longest = np.nanmax(finite) if np.isfinite(losses).any() else 1.0
    lengths = np.where(np.isfinite(losses), losses, longest)
    colours = [RED if np.isfinite(loss) else ORANGE for loss in losses]
    axes.barh(range(len(rows)), lengths, color=colours)
    names = [_name(row) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(max(len(rows), 5) - 0.4, -0.6)
    for i, (loss, length) in enumerate(zip(losses, lengths, strict=True)):
        axes.text(length, i, f" {loss:.4g}", va="center", fontsize=8)
    axes.margins(x=0.18)
    axes.set_title(f"greatest losses ({report.noun} counted from 0)", fontsize=10)
    axes.set_xlabel(report.question.unit, fontsize=9)


def _name(row: dict[str, Any]) -> str:
    told = f"{row['index']}"
    if "target" in row and "predicted" in row:
        return f"{told}: {row['target']} taken for {row['predicted']}"
    if "target" in row and "input" in row:
        return f"{told}: {row['target']:.3g} against {row['input']:.3g}"
    if "target" in row:
        return f"{told}: {row['target']}"
    return told

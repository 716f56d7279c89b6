"""The plot of a bench: throughput, latency and where the time went, by load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from lossd.bench.measured import Measured
from lossd.bench.report import BenchReport
from lossd.bench.tally import STAGES
from lossd.bench.windows import Verdict
from lossd.command_error import CommandError
from lossd.extras import need

BLUE, ORANGE, RED, GREY = "#3b6ea5", "#d98032", "#b3423a", "#777777"
LINES = {"p50_ms": ("p50", BLUE), "p99_ms": ("p99", ORANGE), "p99_9_ms": ("p99.9", RED)}
STAGE_COLOURS = dict(zip(STAGES, ("#bbbbbb", "#8fb3d9", "#3b6ea5", "#e3b27a", "#d98032", "#7aa874"), strict=True))
# A larger spread of loads than this is drawn on a logarithmic axis.
LOG_SPREAD = 10.0
# The labels of more loads than this would overlap.
MOST_TICKS = 8


class LoadPlot:
    """The file to draw. Raises CommandError at once for a missing library, an unknown suffix or a missing folder."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        figure = need("matplotlib.figure", "--plot")
        need("matplotlib.backends.backend_agg", "--plot")
        self._figure: Any = figure.Figure(figsize=(14, 4.4), layout="constrained", dpi=150)
        suffixes = self._figure.canvas.get_supported_filetypes()
        if self._path.suffix.lstrip(".").lower() not in suffixes:
            raise CommandError(f"{path}: unsupported plot format; expected {', '.join(sorted(suffixes))}")
        if not self._path.parent.is_dir():
            raise CommandError(f"{path}: no folder {self._path.parent}")

    def draw(self, report: BenchReport) -> None:
        """Writes the file."""
        throughput, latency, stages = self._figure.subplots(1, 3)
        # Of a rate that was tried twice, the run that counted.
        by_load = {level.load: level for level in report.levels if level.tally.right}
        levels = list(by_load.values())
        self._figure.suptitle(f"{report.mix.title}, {report.address} by {report.how}", fontsize=11)
        for axes in (throughput, latency, stages):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
            axes.set_xlabel("rate, requests/s" if report.levels[0].load.open else "concurrency", fontsize=9)
        if levels:
            _throughput(throughput, levels)
            _latency(latency, levels, report)
            _stages(stages, levels)
        try:
            self._figure.savefig(self._path)
        except OSError as error:
            raise CommandError(f"{self._path}: {error.strerror or error}") from None


def _by_load(axes: Any, levels: list[Measured], values: list[float], colour: str, label: str) -> None:
    """A line with a dot for each level, hollow where the level was not steady."""
    loads = [level.load.size for level in levels]
    searching = any(math.isfinite(level.p99_s) for level in levels)
    axes.plot(loads, values, color=colour, linewidth=1.4, label=label, zorder=2)
    fills = [colour if level.verdict is Verdict.STEADY else "white" for level in levels]
    axes.scatter(loads, values, 26, color=fills, edgecolor=colour, zorder=3, clip_on=False)
    if loads[-1] > LOG_SPREAD * loads[0]:
        axes.set_xscale("log")
        _plain_decades(axes.xaxis)
    if not searching and len(loads) <= MOST_TICKS:
        axes.set_xticks(loads, [level.load.name.removesuffix("/s") for level in levels])
        axes.set_xticks([], minor=True)


def _plain_decades(axis: Any) -> None:
    """Labels 1, 2, 5, 10 … on a logarithmic axis, rather than powers of ten."""
    ticker = need("matplotlib.ticker", "--plot")
    for side, subs in (("major", (1.0,)), ("minor", (2.0, 5.0))):
        getattr(axis, f"set_{side}_locator")(ticker.LogLocator(subs=subs))
        getattr(axis, f"set_{side}_formatter")(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_tick_params(which="minor", labelsize=8)


def _throughput(axes: Any, levels: list[Measured]) -> None:
    axes.set_title("throughput (hollow: not steady)", fontsize=10)
    axes.set_ylabel("requests/s", fontsize=9)
    _by_load(axes, levels, [level.requests_per_s for level in levels], BLUE, "requests/s")
    top = max(level.requests_per_s for level in levels)
    axes.set_ylim(0, 1.08 * top)
    # A second scale rather than a second line, since every level has the same mix of sizes.
    per_request = sum(level.tally.nbytes for level in levels) / sum(level.tally.right for level in levels)
    unit, name = (1e9, "GB/s") if top * per_request >= 1e9 else (1e6, "MB/s")
    factor = per_request / unit
    scale = axes.secondary_yaxis("right", functions=(lambda n: n * factor, lambda b: b / factor))
    scale.set_ylabel(f"{name} of tensors, there and back", fontsize=9)
    scale.tick_params(labelsize=8)


def _latency(axes: Any, levels: list[Measured], report: BenchReport) -> None:
    axes.set_title("latency", fontsize=10)
    axes.set_ylabel("ms", fontsize=9)
    rows = [level.row() for level in levels]
    for column, (label, colour) in LINES.items():
        _by_load(axes, levels, [float(row[column]) for row in rows], colour, label)
    axes.set_yscale("log")
    _plain_decades(axes.yaxis)
    if report.searching:
        axes.axhline(1e3 * report.p99_s, color=GREY, linewidth=1, linestyle="--", label="bound of p99")
        if report.best_rate:
            axes.axvline(report.best_rate, color=GREY, linewidth=1, linestyle=":", label="highest rate")
    axes.legend(fontsize=8, frameon=False)


def _stages(axes: Any, levels: list[Measured]) -> None:
    """The stages as shares of the mean latency; absolute times are in the panel beside it."""
    axes.set_title("where the time went", fontsize=10)
    axes.set_ylabel("share of the mean latency", fontsize=9)
    places = np.arange(len(levels))
    base = np.zeros(len(levels))
    whole = np.array([sum(level.stage_ms(stage) for stage in STAGES) for level in levels])
    for stage in STAGES:
        share = np.array([level.stage_ms(stage) for level in levels]) / whole
        if share.max() > 0 and (stage != "late" or levels[0].load.open):
            axes.bar(places, share, bottom=base, color=STAGE_COLOURS[stage], label=stage, width=0.7)
            base += share
    axes.set_xticks(places, [level.load.name.removesuffix("/s") for level in levels], rotation=30 * (len(levels) > 6))
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))

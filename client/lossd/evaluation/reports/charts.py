"""Charts as SVG inside a page, whose style has their colours: a histogram of the losses, and a reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from lossd.evaluation.measures import Reliability
from lossd.evaluation.reports.histogram import bin_edges

# Of a chart, and of what is around its area: units of its own, which the page scales.
WIDTH, HEIGHT = 460.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 14.0, 22.0, 46.0
# At most so many numbers at an axis.
TICKS = 6


class Axis:
    """From numbers to places. start, end: of the area, at the least and greatest. whole: no other ticks are drawn."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, logarithmic: bool = False, whole: bool = False
    ) -> None:
        self._logarithmic = logarithmic
        self._finest = 1.0 if whole else 0.0
        self._low, self._high = (math.log10(low), math.log10(high)) if logarithmic else (low, high)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        share = ((math.log10(value) if self._logarithmic else value) - self._low) / ((self._high - self._low) or 1.0)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round numbers within: multiples of 1, 2 or 5, or powers of ten."""
        if self._logarithmic:
            lowest, highest = math.ceil(self._low - 1e-9), math.floor(self._high + 1e-9)
            every = max(1, math.ceil((highest - lowest + 1) / TICKS))
            return [10.0**power for power in range(lowest, highest + 1, every)]
        spread = (self._high - self._low) or 1.0
        power = 10.0 ** math.floor(math.log10(spread / TICKS))
        step = next(power * one for one in (1, 2, 5, 10, 20) if spread / (power * one) <= TICKS)
        step = max(step, self._finest)
        first = math.ceil(self._low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self._high / step + 1e-9) + 1)]


def histogram(losses: npt.NDArray[np.float64], unit: str, noun: str) -> str:
    """losses: finite, at least one. Each bar tells its numbers to a pointer that rests on it."""
    edges, logarithmic, zeros = bin_edges(losses)
    counts, _ = np.histogram(losses, edges)
    across = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT, logarithmic=logarithmic)
    up = Axis(0.0, float(max(1, counts.max())), HEIGHT - BOTTOM, TOP, whole=True)
    parts = [*_grid(across, up, below=f"loss, {unit}" + (" (logarithmic)" if logarithmic else ""), beside=noun)]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            left, right, top = across.place(float(low)), across.place(float(high)), up.place(float(count))
            parts.append(
                f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{max(0.5, right - left - 0.6):.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{low:.4g} to {high:.4g} {escape(unit)}: {count:,} {noun}'
                "</title></rect>"
            )
    mean = float(losses.mean())
    if not logarithmic or mean > 0:
        at = across.place(mean)
        anchor = "end" if at > WIDTH / 2 else "start"
        parts.append(f'<line class="mean" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP:.1f}" y2="{HEIGHT - BOTTOM:.1f}"/>')
        parts.append(f'<text class="mean" x="{at:.1f}" y="{TOP - 7:.1f}" text-anchor="{anchor}">mean {mean:.3g}</text>')
    left_out = f"; {zeros:,} of loss 0 are not drawn" if zeros else ""
    return _svg(parts, f"histogram of {len(losses):,} losses, mean {mean:.3g} {unit}{left_out}")


def reliability(found: Reliability) -> str:
    """A dot for each bin: how often predictions of that confidence came true, its area their share."""
    across, up = Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(across, up, below="confidence", beside="share that came true")]
    parts.append(_line("diagonal", across.place(0.0), up.place(0.0), across.place(1.0), up.place(1.0)))
    total = max(1, int(found.counts.sum()))
    for count, confidence, frequency in zip(found.counts, found.confidence, found.frequency, strict=True):
        if count:
            x, y = across.place(float(confidence)), up.place(float(frequency))
            radius = 3.0 + 14.0 * math.sqrt(int(count) / total)
            parts.append(_line("gap", x, up.place(float(confidence)), x, y))
            parts.append(
                f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>confidence {confidence:.3f}, '
                f"came true {frequency:.3f}: {count:,} predictions</title></circle>"
            )
    return _svg(parts, f"reliability diagram, expected calibration error {found.error:.2%}")


def _grid(across: Axis, up: Axis, *, below: str, beside: str) -> Iterator[str]:
    foot = HEIGHT - BOTTOM
    for value in up.ticks():
        y = up.place(value)
        yield _line("grid", LEFT, y, WIDTH - RIGHT, y)
        yield f'<text x="{LEFT - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    for value in across.ticks():
        x = across.place(value)
        yield _line("tick", x, foot, x, foot + 4)
        yield f'<text x="{x:.1f}" y="{foot + 17:.1f}" text-anchor="middle">{_number(value)}</text>'
    yield _line("axis", LEFT, foot, WIDTH - RIGHT, foot)
    centre, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + foot) / 2
    yield f'<text class="name" x="{centre:.1f}" y="{HEIGHT - 8:.1f}" text-anchor="middle">{escape(below)}</text>'
    yield (
        f'<text class="name" x="13" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 13 {middle:.1f})">'
        f"{escape(beside)}</text>"
    )


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _number(value: float) -> str:
    if value >= 1000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def _svg(parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'

"""The progress of a bench, on stderr: one changing line on a terminal, elsewhere a line for each level."""

from __future__ import annotations

import shutil
import sys

from lossd.bench.measured import Measured
from lossd.bench.plan import Load
from lossd.bench.table import plain
from lossd.bench.tally import Tally
from lossd.bench.windows import Verdict

_CLEAR = "\r\x1b[K"


class Progress:
    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def say(self, what: str) -> None:
        """Shows what is being done before there are numbers."""
        self._show(f"{what} …")

    def window(self, load: Load, window: Tally, elapsed_s: float) -> None:
        """Shows the numbers of a window."""
        rate = window.right / window.seconds if window.seconds else 0.0
        self._show(f"{_name(load)}: {elapsed_s:.0f} s, {_numbers(rate, window)} …")

    def level(self, measured: Measured) -> None:
        """Prints the numbers of a level."""
        self.clear()
        verdict = "" if measured.verdict is Verdict.STEADY else f" ({measured.verdict.value})"
        numbers = _numbers(measured.requests_per_s, measured.tally)
        failed = f", {measured.failed.total():,} failed" if measured.failed else ""
        print(f"{_name(measured.load)}: {numbers}{failed}{verdict}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Clears the changing line before something else is printed."""
        if self._live:
            print(_CLEAR, end="", file=sys.stderr, flush=True)

    def _show(self, line: str) -> None:
        if self._live:
            # A line that wraps could not be cleared.
            wide = shutil.get_terminal_size().columns - 1
            print(_CLEAR + line[:wide], end="", file=sys.stderr, flush=True)


def _name(load: Load) -> str:
    return f"rate {load.name}" if load.open else f"concurrency {load.name}"


def _numbers(rate: float, tally: Tally) -> str:
    p50_ms, p99_ms = (1e3 * tally.latency.percentile_s(percent) for percent in (50, 99))
    return f"{plain(rate)} requests/s, p50 {plain(p50_ms)} ms, p99 {plain(p99_ms)} ms"

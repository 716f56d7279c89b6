"""The measurements of a level, and the same as one flat row of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lossd.bench.plan import Load
from lossd.bench.tally import STAGES, WRONG, Tally
from lossd.bench.windows import Verdict

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
# A rate counts as kept when this share of it was answered.
KEPT = 0.95
# From this share of a core on, the load generator's thread is the bottleneck.
BUSY = 0.9

Row = dict[str, str | int | float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """tally: of the last three windows. elapsed_s, failed: of the whole level. p99_s: bound of a search or infinite."""

    load: Load
    verdict: Verdict
    elapsed_s: float
    tally: Tally
    failed: Counter[str] = field(default_factory=Counter)
    p99_s: float = math.inf

    @property
    def wrong(self) -> int:
        return self.failed[WRONG]

    @property
    def requests_per_s(self) -> float:
        return self._per_s(self.tally.right)

    @property
    def generator_share(self) -> float:
        """CPU time of the load generator's thread, as a share of one core."""
        return self._per_s(self.tally.cpu_s)

    @property
    def process_cores(self) -> float:
        """CPU time of the load generator's process, in cores, with gRPC's threads and those of an embedded server."""
        return self._per_s(self.tally.process_cpu_s)

    @property
    def kept(self) -> bool:
        """Whether as many requests were answered as the rate demands; always true in a closed loop."""
        expected = self.load.rate * self.tally.seconds
        # Random arrivals may be fewer, by up to three standard deviations.
        chance = 3 * math.sqrt(expected) if self.load.arrivals == "poisson" else 0.0
        return self.tally.right >= KEPT * expected - chance

    @property
    def passed(self) -> bool:
        """Whether this rate holds: steady, kept, no failures, p99 within the bound."""
        return (
            self.verdict is Verdict.STEADY
            and not self.failed
            and self.tally.latency.percentile_s(99) <= self.p99_s
            and self.kept
        )

    def stage_ms(self, stage: str) -> float:
        return 1e3 * self.tally.stages_s[stage] / self.tally.right if self.tally.right else math.nan

    def row(self) -> Row:
        """Column → value, the same columns for every level. NaN where nothing was answered."""
        tally, latency = self.tally, self.tally.latency
        found: Row = {
            "concurrency": self.load.concurrency,
            "rate": self.load.rate,
            "arrivals": self.load.arrivals if self.load.open else "",
            "verdict": self.verdict.value,
            "elapsed_s": self.elapsed_s,
            "measured_s": tally.seconds,
            "requests": tally.right,
            "requests_per_s": self.requests_per_s,
            "rows_per_s": self._per_s(tally.rows),
            "elements_per_s": self._per_s(tally.elements),
            "gb_per_s": self._per_s(tally.nbytes) / 1e9,
            "mean_ms": 1e3 * latency.mean_s,
        }
        found |= {f"{name}_ms": 1e3 * latency.percentile_s(percent) for name, percent in PERCENTILES.items()}
        found["max_ms"] = 1e3 * latency.greatest_s if latency.count else math.nan
        found["batch_requests"] = tally.right / tally.batches if tally.batches else math.nan
        found["batch_rows"] = tally.batch_rows / tally.batches if tally.batches else math.nan
        found |= {f"{stage}_ms": self.stage_ms(stage) for stage in STAGES}
        found["failed"] = self.failed.total() - self.wrong
        found["wrong"] = self.wrong
        found["generator_share"] = self.generator_share
        found["process_cores"] = self.process_cores
        return found

    def _per_s(self, amount: float) -> float:
        return amount / self.tally.seconds if self.tally.seconds else math.nan


def merged(windows: Iterable[Tally]) -> Tally:
    """One tally of several."""
    whole = Tally()
    for window in windows:
        whole.merge(window)
    return whole

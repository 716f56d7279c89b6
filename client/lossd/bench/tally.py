"""Counts and sums over the answers in a period of time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from lossd.bench.histogram import Histogram
from lossd.results import Timing

# Where the time of a request goes, in order. late: in an open loop, from when it was due to its start.
STAGES = ("late", "encode", "wire", "queue", "compute", "reply")
WRONG = "WRONG_ANSWER"


@dataclass(frozen=True, slots=True)
class Answered:
    """A right answer. latency_s: in an open loop from when it was due, in a closed one from its start.

    rows, elements: of its input. nbytes: of its tensors, in both directions. encode_s, reply_s: the client's computing
    time before its first and after its last wait.
    """

    latency_s: float
    late_s: float
    encode_s: float
    reply_s: float
    timing: Timing
    rows: int
    elements: int
    nbytes: int


@dataclass(slots=True)
class Tally:
    """Sums over answers. seconds: the period; cpu_s: CPU time of the generator's thread; process_cpu_s: of its process.

    due: requests of an open loop that were due in this period; 0 in a closed one. failed: wrong and failed answers, by
    status. batches: the server's batches, estimated from its answers.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    process_cpu_s: float = 0.0
    due: int = 0
    latency: Histogram = field(default_factory=Histogram)
    rows: int = 0
    elements: int = 0
    nbytes: int = 0
    batches: float = 0.0
    batch_rows: float = 0.0
    stages_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def right(self) -> int:
        return self.latency.count

    @property
    def answers(self) -> int:
        return self.right + self.failed.total()

    def add(self, one: Answered) -> None:
        self.latency.add(one.latency_s)
        self.rows += one.rows
        self.elements += one.elements
        self.nbytes += one.nbytes
        timing, stages = one.timing, self.stages_s
        # Every request of a batch reports it; each counts as its share, so that the batch counts once.
        share = 1.0 / max(1, timing.batch_requests)
        self.batches += share
        self.batch_rows += share * timing.batch_rows
        stages["late"] += one.late_s
        stages["encode"] += one.encode_s
        stages["queue"] += timing.queue_s
        stages["compute"] += timing.compute_s
        stages["reply"] += one.reply_s
        known_s = one.late_s + one.encode_s + timing.queue_s + timing.compute_s + one.reply_s
        stages["wire"] += max(0.0, one.latency_s - known_s)

    def fail(self, status: str) -> None:
        self.failed[status] += 1

    def merge(self, other: Self) -> None:
        self.seconds += other.seconds
        self.cpu_s += other.cpu_s
        self.process_cpu_s += other.process_cpu_s
        self.due += other.due
        self.latency.merge(other.latency)
        self.rows += other.rows
        self.elements += other.elements
        self.nbytes += other.nbytes
        self.batches += other.batches
        self.batch_rows += other.batch_rows
        for stage in STAGES:
            self.stages_s[stage] += other.stages_s[stage]
        self.failed.update(other.failed)

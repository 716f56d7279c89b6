"""Worker metrics: what a worker counts, into its slot of shared memory. Of its event loop's thread.

Counting is adding to words of memory: on the path of a small call nothing else is done for it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from time import monotonic_ns
from typing import Any

from lossd_server.metrics import layout
from lossd_server.metrics.layout import (
    BY_LOSS,
    COMPLETED,
    FAILED,
    LOSS_WORDS,
    PLANNED,
    ROWS,
    SLOT_WORDS,
    TIMES_NS,
    TIMES_WIDTH,
    Gauge,
)  # fmt: skip
from lossd_server.metrics.memory import Words, clear_gauges, of_each, total_of, words_of, workers_of
from lossd_server.metrics.methods import EVALUATING, LOSS_PLACES, UNKNOWN_LOSS
from lossd_server.metrics.named_words import NamedWords


class WorkerMetrics:
    """index: of the worker's slot in `memory`, which `shared` made; None: one slot of this process's own.

    A worker that takes a dead one's place counts on from what it finds there. publish: by whoever knows the gauges.
    """

    def __init__(self, index: int = 0, memory: Any = None) -> None:
        self.index = index
        self.all = words_of(memory)
        self.workers = workers_of(self.all)
        start = index * SLOT_WORDS
        self.words = self.all[start : start + SLOT_WORDS]
        clear_gauges(self.all, index)
        self.words[Gauge.PID] = os.getpid()
        self.beat()
        self._reasons = NamedWords(self.words, layout.REASON_NAMES)
        self._identities = NamedWords(self.words, layout.IDENTITY_NAMES)

    def beat(self) -> None:
        """The event loop runs."""
        self.words[layout.BEAT] = monotonic_ns()

    def set(self, values: Mapping[Gauge, int]) -> None:
        """How it is now."""
        for gauge, value in values.items():
            self.words[gauge] = value

    def failed(self, loss: str) -> None:
        """An evaluation that fails; loss: "" where it is not known."""
        self.words[BY_LOSS + LOSS_PLACES.get(loss, UNKNOWN_LOSS) * LOSS_WORDS + FAILED] += 1

    def completed(self, loss: str) -> None:
        """One that was answered, and not by a plan."""
        self.words[BY_LOSS + LOSS_PLACES.get(loss, UNKNOWN_LOSS) * LOSS_WORDS + COMPLETED] += 1

    def refused(self, reason: str, shed: bool) -> None:
        """A call, or an evaluation of a stream, that ends with `reason`. shed: for load alone."""
        place = self._reasons.place(reason)
        self.words[layout.REFUSED + place] += 1
        if shed:
            self.words[layout.SHED + place] += 1

    def cancelled(self) -> None:
        """A call that its client gave up."""
        self.words[layout.CANCELLED] += 1

    def called(self, identity: str) -> None:
        """A call of somebody who is known."""
        self.words[layout.IDENTITY_REQUESTS + self._identities.place(identity)] += 1

    def hold(self, by_identity: Iterable[tuple[str, int]]) -> None:
        """Bytes in flight by identity, each as often as it holds some: now, and no others."""
        held = [0] * layout.MOST_NAMES
        for identity, size in by_identity:
            held[self._identities.place(identity)] += size
        for place, size in enumerate(held):
            self.words[layout.IDENTITY_BYTES + place] = size

    def transferred(self, took_ns: int) -> None:
        """A batch's way to the device and back. By the thread that computes, which is alone in that."""
        observe(self.words, layout.TRANSFER, TIMES_NS, took_ns)

    def activity(self) -> int:
        """Something else whenever this worker has evaluated anything."""
        return sum(self.words[BY_LOSS : layout.REASON_NAMES])

    def answered(self) -> int:
        """Calls that evaluate, and ended well; a stream is one."""
        words, buckets = self.words, TIMES_WIDTH - 1
        found = 0
        for place in EVALUATING:
            at = layout.BY_METHOD + place * layout.METHOD_WORDS
            for first in (at + layout.WELL, at + layout.AT_ONCE):
                found += sum(words[first : first + buckets])
        return found

    # What all workers have counted.

    def utilization(self) -> float:
        """The mean of those that run."""
        running = max(1, sum(pid != 0 for pid in of_each(self.all, Gauge.PID)))
        return total_of(self.all, Gauge.UTILIZATION) / layout.AS_WORD / running

    def evaluations(self) -> tuple[int, int]:
        """Those completed and those failed, of all workers."""
        completed = failed = 0
        for at in range(BY_LOSS, BY_LOSS + len(LOSS_PLACES) * LOSS_WORDS, LOSS_WORDS):
            planned = total_of(self.all, at + PLANNED, TIMES_WIDTH - 1)
            completed += total_of(self.all, at + COMPLETED) + planned
            failed += total_of(self.all, at + FAILED)
        return completed, failed

    def batches(self) -> tuple[int, int]:
        """How many there were, and their rows, of all workers."""
        buckets = len(ROWS) + 1
        rows = total_of(self.all, layout.BATCH_ROWS + buckets)
        return total_of(self.all, layout.BATCH_ROWS, buckets), rows


def observe(words: Words, at: int, bounds: tuple[int, ...], value: int, times: int = 1) -> None:
    """Puts `value` into the histogram whose words begin at `at`, so many times."""
    words[at + bisect_left(bounds, value)] += times
    words[at + len(bounds) + 1] += value * times

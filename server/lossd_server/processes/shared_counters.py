"""Shared counters of all workers: slot i is written by worker i alone, and read by everyone."""

from __future__ import annotations

from array import array
from collections.abc import MutableSequence
from multiprocessing.sharedctypes import RawArray
from typing import cast

# Grow as long as the server lives; the others are of now.
GROWING = ("completed", "failed", "batches", "rows")
COUNTERS = (*GROWING, "inflight_bytes", "inflight_requests")
# A slot has one number more: it grows as long as the worker's event loop runs.
_SLOT = len(COUNTERS) + 1


class SharedCounters:
    """One worker's view. memory: what `shared` made, or None for a server that is one process.

    A worker that takes a dead one's place counts on from what it finds in its slot.
    """

    def __init__(self, index: int = 0, memory: MutableSequence[int] | None = None) -> None:
        self._memory = array("q", [0] * _SLOT) if memory is None else memory
        self._start = index * _SLOT
        self._before = list(self._memory[self._start : self._start + len(GROWING)])
        self.workers = len(self._memory) // _SLOT

    def publish(self, values: tuple[int, ...]) -> None:
        """values: this worker's own, in the order of COUNTERS."""
        for position, value in enumerate(values):
            before = self._before[position] if position < len(GROWING) else 0
            self._memory[self._start + position] = before + value
        self._memory[self._start + len(COUNTERS)] += 1

    def totals(self) -> dict[str, int]:
        """Each counter over all workers, by name."""
        return {name: sum(self._memory[position::_SLOT]) for position, name in enumerate(COUNTERS)}


def shared(workers: int) -> MutableSequence[int]:
    """Memory for `workers` slots that child processes can be given."""
    return cast("MutableSequence[int]", RawArray("q", workers * _SLOT))


def beat_of(memory: MutableSequence[int], index: int) -> int:
    """How often the worker has published: what does not change belongs to a worker that has stopped."""
    return memory[index * _SLOT + len(COUNTERS)]

"""A ragged batch: packs jobs into one buffer of words, and takes their results out of another.

Words: descriptors, the work list, operands. Results: a work item's fault words, then losses, sums and gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from triton.language import constexpr

from lossd_server.array import STORAGE
from lossd_server.backends.triton import table
from lossd_server.backends.triton.configuration import Configuration, afterwards, choose, runs, tiles
from lossd_server.backends.triton.operands import words
from lossd_server.backends.triton.packing import OUTPUTS, Packing
from lossd_server.job import Computed, Fault, Formula, Job, Launch

WORDS: int = table.WORDS.value
FAULTS: int = table.FAULTS.value
NO_FAULT: int = table.NO_FAULT.value
FLOAT64 = np.dtype(np.float64)


class Batch:
    """The layout of one batch. `words` and `result_words` are the sizes, in int64 words, of its two buffers.

    groups: kernel variant, its first work item, how many: to be launched in this order.
    """

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.jobs = [launch.job for launch in launches]
        # Work items grouped by kernel variant, in the order in which the variants first appear; a job's lie together.
        first: dict[Configuration, list[tuple[int, int]]] = {}
        later: dict[Configuration, list[tuple[int, int]]] = {}
        for number, job in enumerate(self.jobs):
            configuration = choose(job)
            if count := tiles(job, configuration):
                first.setdefault(configuration, []).append((number, count))
            last = afterwards(job)
            if last is not None and (count := tiles(job, last)):
                later.setdefault(last, []).append((number, count))
        self.groups: list[tuple[Configuration, int, int]] = []
        self._items: list[tuple[int, int, int]] = []  # job, its first work item, how many
        checked = self._list(first, 0)
        self._faults = {number: (start, count) for number, start, count in self._items}
        self._checked = checked  # work items that report faults: those before the later ones
        total = self._list(later, checked)
        self.work = len(self.jobs) * WORDS
        self._work_end = self.work + 2 * total
        packing = Packing(self._work_end * 8, FAULTS * checked * 8)
        self._table = np.full((len(self.jobs), WORDS), -1, np.int64)
        for launch, row in zip(launches, self._table, strict=True):
            packing.describe(launch, row)
        self._pieces = packing.pieces
        self.words = -(-packing.operands.size // 8)
        self.result_words = -(-packing.results.size // 8)

    def _list(self, grouped: dict[Configuration, list[tuple[int, int]]], total: int) -> int:
        """Lists work items from number `total` on; the number after the last."""
        for configuration, members in grouped.items():
            begin = total
            for number, count in members:
                self._items.append((number, total, count))
                total += count
            self.groups.append((configuration, begin, total - begin))
        return total

    def fill(self, buffer: npt.NDArray[np.int64]) -> None:
        """Writes descriptors, work list and operands into `buffer`, of `words` words."""
        buffer[: self.work] = self._table.reshape(-1)
        work = buffer[self.work : self._work_end].reshape(-1, 2)
        for number, first, count in self._items:
            work[first : first + count, 0] = number
            work[first : first + count, 1] = np.arange(count)
        raw = buffer.view(np.uint8)
        for offset, values in self._pieces:
            piece = words(values)
            raw[offset : offset + piece.size] = piece

    def results(self, buffer: npt.NDArray[np.int64]) -> Iterator[Computed]:
        """What the kernels left in `buffer`, as views of it."""
        faults = buffer[: FAULTS * self._checked].reshape(-1, FAULTS)
        any_fault = bool((faults != NO_FAULT).any())
        raw = buffer.view(np.uint8)
        for number, job in enumerate(self.jobs):
            first, count = self._faults.get(number, (0, 0))
            fault = _fault(job.formula, faults[first : first + count]) if any_fault and count else None
            yield Computed(fault=fault) if fault else _computed(job, self._table[number], raw)


def _computed(job: Job, row: npt.NDArray[np.int64], raw: npt.NDArray[np.uint8]) -> Computed:
    """A job's results, found by its descriptor."""
    layout = job.layout

    def taken(word: constexpr, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any] | None:
        offset = int(row[word.value])
        return None if offset < 0 else raw[offset : offset + count * dtype.itemsize].view(dtype)

    def elements(word: constexpr) -> npt.NDArray[Any] | None:
        return taken(word, STORAGE[int(row[word.value + 1])], layout.elements) if row[word.value] >= 0 else None

    computed = Computed(
        losses=taken(table.LOSSES, FLOAT64, layout.rows),
        values=elements(table.VALUES),
        input_gradient=elements(table.INPUT_GRADIENT),
        target_gradient=elements(table.TARGET_GRADIENT),
        weight_gradient=taken(table.WEIGHT_GRADIENT, FLOAT64, layout.classes),
    )
    for name in job.outputs:
        word, dtype = OUTPUTS[name]
        offset = int(row[word])
        computed.outputs[name] = raw[offset : offset + layout.rows * dtype.itemsize].view(dtype)
    if job.formula.elementwise and not job.formula.activation:
        computed.losses, computed.values = computed.values, None
        run_sums = taken(table.RUN_SUMS, FLOAT64, layout.chunks * runs(job))
        assert run_sums is not None
        # A running sum adds in order; numpy's sum does not.
        computed.chunk_sums = (
            np.cumsum(run_sums.reshape(layout.chunks, -1), axis=1)[:, -1] if layout.chunks else run_sums
        )
    return computed


def _fault(formula: Formula, faults: npt.NDArray[np.int64]) -> tuple[Fault, int] | None:
    """The first offending value of a job: of an element the lower index, of rows the kinds in this order."""
    first, second, third = (int(index) for index in faults.min(axis=0))
    if formula.elementwise:
        if first == second == NO_FAULT:
            return None
        return (Fault.INPUT_NOT_PROBABILITY, first) if first <= second else (Fault.TARGET_NOT_PROBABILITY, second)
    for kind, index in (
        (Fault.CLASS_OUT_OF_RANGE, first),
        (Fault.NEGATIVE_COUNT, second),
        (Fault.EMPTY_COUNTS, third),
    ):
        if index != NO_FAULT:
            return kind, index
    return None

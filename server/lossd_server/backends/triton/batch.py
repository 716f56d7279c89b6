"""A ragged batch: packs jobs into one buffer of words, and takes their results out of another.

Words: descriptors, the work list, operands. Results: two fault words a work item, then losses, sums and gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd_server.array import STORAGE, View, gradient_dtype
from lossd_server.backends.triton import table
from lossd_server.backends.triton.configuration import Configuration, choose, chunk_elements, runs, tiles
from lossd_server.backends.triton.operands import readable, strided, words
from lossd_server.job import Computed, Fault, Formula, Job, Launch

WORDS: int = table.WORDS.value
NO_FAULT: int = table.NO_FAULT.value
ALIGNMENT = 16

MODES: dict[Formula, int] = {
    Formula.CROSS_ENTROPY_INDEX: table.INDEX.value,
    Formula.CROSS_ENTROPY_DISTRIBUTION: table.DISTRIBUTION.value,
    Formula.ENTROPY_LOGITS: table.ENTROPY.value,
    Formula.ENTROPY_PROBABILITIES: table.PROBABILITIES.value,
    Formula.ENTROPY_COUNTS: table.COUNTS.value,
    Formula.BCE: table.BCE.value,
    Formula.BCE_WITH_LOGITS: table.BCE_WITH_LOGITS.value,
}
# What a work item's two fault words are the first index of.
FAULTS: dict[Formula, tuple[Fault, Fault]] = {
    Formula.CROSS_ENTROPY_INDEX: (Fault.CLASS_OUT_OF_RANGE, Fault.CLASS_OUT_OF_RANGE),
    Formula.ENTROPY_COUNTS: (Fault.NEGATIVE_COUNT, Fault.EMPTY_COUNTS),
    Formula.BCE: (Fault.INPUT_NOT_PROBABILITY, Fault.TARGET_NOT_PROBABILITY),
}


class Extent:
    """A buffer being laid out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def reserve(self, size: int) -> int:
        """The offset of `size` further bytes."""
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.size = offset + size
        return offset


class Batch:
    """The layout of one batch. `words` and `result_words` are the sizes, in int64 words, of its two buffers."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.jobs = [launch.job for launch in launches]
        # Work items grouped by kernel variant, in the order in which the variants first appear; a job's lie together.
        grouped: dict[Configuration, list[tuple[int, int]]] = {}
        for number, job in enumerate(self.jobs):
            configuration = choose(job)
            if count := tiles(job, configuration):
                grouped.setdefault(configuration, []).append((number, count))
        self.items: dict[int, tuple[int, int]] = {}  # job → its first work item, how many
        self.groups: list[tuple[Configuration, int, int]] = []  # variant, first work item, how many
        total = 0
        for configuration, members in grouped.items():
            first = total
            for number, count in members:
                self.items[number] = (total, count)
                total += count
            self.groups.append((configuration, first, total - first))
        self.item_count = total
        self.work = len(self.jobs) * WORDS
        self._operands = Extent((self.work + 2 * total) * 8)
        self._results = Extent(2 * total * 8)
        self._pieces: list[tuple[int, npt.NDArray[Any]]] = []
        self._table = np.full((len(self.jobs), WORDS), -1, np.int64)
        for launch, row in zip(launches, self._table, strict=True):
            self._describe(launch, row)
        self.words = -(-self._operands.size // 8)
        self.result_words = -(-self._results.size // 8)

    def fill(self, buffer: npt.NDArray[np.int64]) -> None:
        """Writes descriptors, work list and operands into `buffer`, of `words` words."""
        buffer[: self.work] = self._table.reshape(-1)
        work = buffer[self.work : self.work + 2 * self.item_count].reshape(-1, 2)
        for number, (first, count) in self.items.items():
            work[first : first + count, 0] = number
            work[first : first + count, 1] = np.arange(count)
        raw = buffer.view(np.uint8)
        for offset, values in self._pieces:
            piece = words(values)
            raw[offset : offset + piece.size] = piece

    def results(self, buffer: npt.NDArray[np.int64]) -> Iterator[Computed]:
        """What the kernels left in `buffer`, as views of it."""
        faults = buffer[: 2 * self.item_count].reshape(-1, 2)
        any_fault = bool((faults != NO_FAULT).any())
        raw = buffer.view(np.uint8)
        for number, job in enumerate(self.jobs):
            first, count = self.items.get(number, (0, 0))
            fault = _fault(job.formula, faults[first : first + count]) if any_fault and count else None
            yield Computed(fault=fault) if fault else self._computed(job, self._table[number], raw)

    def _describe(self, launch: Launch, row: npt.NDArray[np.int64]) -> None:
        """One job's descriptor, and room for its operands and results."""
        job = launch.job
        layout = job.layout
        row[table.MODE.value] = MODES[job.formula]
        row[table.ROWS.value] = layout.elements if job.formula.elementwise else layout.rows
        row[table.CLASSES.value] = layout.classes
        row[table.INNER.value] = layout.inner
        row[table.IGNORE_INDEX.value] = job.ignore_index
        epsilon = job.label_smoothing
        numbers = row.view(np.float64)
        numbers[table.SCALE_BITS.value] = launch.scale
        numbers[table.KEEP_BITS.value] = 1.0 - epsilon
        numbers[table.SMOOTH_BITS.value] = epsilon / layout.classes if layout.classes else 0.0
        self._operand(row, table.INPUT.value, table.INPUT_DTYPE.value, job.input.values, job.input.dtype, job)
        if job.target is not None and job.formula is Formula.CROSS_ENTROPY_INDEX:
            row[table.TARGET.value] = self._place(job.target.values)
        elif job.target is not None:
            self._operand(row, table.TARGET.value, table.TARGET_DTYPE.value, job.target.values, job.target.dtype, job)
        if job.class_weight is not None:
            row[table.CLASS_WEIGHT.value] = self._place(job.class_weight.astype(job.compute, copy=False))
        if job.row_weight is not None:
            row[table.ROW_WEIGHT.value] = self._place(job.row_weight)
        if job.row_upstream is not None:
            row[table.ROW_UPSTREAM.value] = self._place(job.row_upstream)
        if job.formula.elementwise:
            self._view(row, table.WEIGHT.value, job.weight, job)
            self._view(row, table.POS_WEIGHT.value, job.pos_weight, job)
            self._view(row, table.UPSTREAM.value, job.upstream, job)
            row[table.CHUNK.value] = chunk_elements(job)
            row[table.RUNS.value] = runs(job)
            row[table.RUN_SUMS.value] = self._results.reserve(layout.chunks * runs(job) * 8)
            if job.keep_losses:
                row[table.LOSSES.value] = self._results.reserve(layout.elements * job.compute.itemsize)
        else:
            row[table.LOSSES.value] = self._results.reserve(layout.rows * 8)
        if job.input_gradient:
            self._gradient(row, table.INPUT_GRADIENT.value, table.INPUT_GRADIENT_DTYPE.value, job.input.dtype, job)
        if job.target_gradient and job.target is not None:
            self._gradient(row, table.TARGET_GRADIENT.value, table.TARGET_GRADIENT_DTYPE.value, job.target.dtype, job)

    def _operand(
        self, row: npt.NDArray[np.int64], offset: int, kind: int, values: npt.NDArray[Any], dtype: int, job: Job
    ) -> None:
        taken, row[kind] = readable(values, dtype, job.compute)
        row[offset] = self._place(taken)

    def _view(self, row: npt.NDArray[np.int64], word: int, view: View | None, job: Job) -> None:
        if view is None:
            return
        values, strides = strided(view)
        self._operand(row, word + table.VIEW_OFFSET.value, word + table.VIEW_DTYPE.value, values, view.dtype, job)
        row[word + table.VIEW_MIDDLE.value : word + table.VIEW_MIDDLE.value + len(strides)] = strides

    def _gradient(self, row: npt.NDArray[np.int64], offset: int, kind: int, dtype: int, job: Job) -> None:
        row[kind] = gradient_dtype(dtype)
        row[offset] = self._results.reserve(job.layout.elements * STORAGE[gradient_dtype(dtype)].itemsize)

    def _place(self, values: npt.NDArray[Any]) -> int:
        offset = self._operands.reserve(values.nbytes)
        self._pieces.append((offset, values))
        return offset

    def _computed(self, job: Job, row: npt.NDArray[np.int64], raw: npt.NDArray[np.uint8]) -> Computed:
        def taken(word: int, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
            offset = int(row[word])
            return raw[offset : offset + count * dtype.itemsize].view(dtype)

        def gradient(word: int, kind: int) -> npt.NDArray[Any] | None:
            return taken(word, STORAGE[int(row[kind])], job.layout.elements) if row[word] >= 0 else None

        float64 = np.dtype(np.float64)
        computed = Computed(
            input_gradient=gradient(table.INPUT_GRADIENT.value, table.INPUT_GRADIENT_DTYPE.value),
            target_gradient=gradient(table.TARGET_GRADIENT.value, table.TARGET_GRADIENT_DTYPE.value),
        )
        if not job.formula.elementwise:
            computed.losses = taken(table.LOSSES.value, float64, job.layout.rows)
            return computed
        if job.keep_losses:
            computed.losses = taken(table.LOSSES.value, job.compute, job.layout.elements)
        chunks = job.layout.chunks
        run_sums = taken(table.RUN_SUMS.value, float64, chunks * runs(job))
        # A running sum adds in order; numpy's sum does not.
        computed.chunk_sums = np.cumsum(run_sums.reshape(chunks, -1), axis=1)[:, -1] if chunks else run_sums
        return computed


def _fault(formula: Formula, faults: npt.NDArray[np.int64]) -> tuple[Fault, int] | None:
    """The first offending value of a job; of two kinds the lower index, but a negative count before an empty row."""
    first, second = (int(index) for index in faults.min(axis=0))
    kinds = FAULTS.get(formula)
    if kinds is None or first == second == NO_FAULT:
        return None
    if first <= second or (formula is Formula.ENTROPY_COUNTS and first != NO_FAULT):
        return kinds[0], first
    return kinds[1], second

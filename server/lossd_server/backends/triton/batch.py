"""A ragged batch: jobs of any shapes, packed into one buffer of words; their results, taken out of another.

The first holds descriptors, the work list, operands; the second each work item's fault words, then losses, sums and
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from triton.language import constexpr

from lossd_server.backends.triton import descriptor
from lossd_server.backends.triton.batch_layout import OUTPUTS, BatchLayout
from lossd_server.backends.triton.kernel_variants import KernelVariant
from lossd_server.backends.triton.operand_conversion import as_bytes
from lossd_server.backends.triton.variant_choice import choose_variant, row_pitch, runs_per_chunk
from lossd_server.backends.triton.work_list import TileRange, plan_launches
from lossd_server.jobs.job import Computed, Fault, Formula, Job, Launch
from lossd_server.tensors.array import STORAGE

WORDS: int = descriptor.WORDS.value
ITEM: int = descriptor.ITEM.value
FAULTS: int = descriptor.FAULTS.value
NO_FAULT: int = descriptor.NO_FAULT.value
FLOAT64 = np.dtype(np.float64)
# Kernels count the words of a work list in int32. So many work items are 16 GiB of them.
MOST_ITEMS = 2**31 // ITEM - 1


class VariantLaunch(NamedTuple):
    """One kernel launch: so many work items from `first_item` on."""

    variant: KernelVariant
    first_item: int
    items: int


class DeviceBatch:
    """A batch's layout. `words` and `result_words` are the sizes, in int64 words, of its two buffers.

    staged_words: of the first, what `fill` writes; the operands in `direct`, which are copied from where they lie, come
    after it. work_list: the word at which the work list begins. launches: to be made in this order.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        direct: Callable[[npt.NDArray[Any]], bool] = lambda values: False,
    ) -> None:
        self.jobs = [launch.job for launch in launches]
        self._variants = [choose_variant(job) for job in self.jobs]
        self.launches: list[VariantLaunch] = []
        self._ranges: list[tuple[KernelVariant, int, TileRange]] = []  # with its first work item
        items = 0
        for variant, ranges in plan_launches(self.jobs, self._variants):
            begin = items
            for tiles in ranges:
                self._ranges.append((variant, items, tiles))
                items += tiles.count
            self.launches.append(VariantLaunch(variant, begin, items - begin))
        if items > MOST_ITEMS:
            raise MemoryError(f"a batch of {items} work items is more than a launch can have")
        self.items = items
        self.work_list = len(self.jobs) * WORDS
        self._work_list_end = self.work_list + ITEM * items
        layout = BatchLayout(self._work_list_end * 8, FAULTS * items * 8, direct)
        self._table = np.full((len(self.jobs), WORDS), -1, np.int64)
        for launch, variant, row in zip(launches, self._variants, self._table, strict=True):
            layout.add(launch, variant, row)
        self._packed = layout.packed
        self.staged_words = -(-layout.operands.size // 8)
        self.direct = layout.place_direct_operands(self._table)
        self.words = -(-layout.operands.size // 16) * 2  # whole vectors
        self.result_words = -(-layout.results.size // 16) * 2  # whole vectors

    def word(self, number: int, word: int) -> int:
        """A word of a job's descriptor."""
        return int(self._table[number, word])

    def fill(self, buffer: npt.NDArray[np.int64]) -> None:
        """Writes descriptors, work list and operands into `buffer`, of `staged_words` words."""
        buffer[: self.work_list] = self._table.reshape(-1)
        items = buffer[self.work_list : self._work_list_end].reshape(-1, ITEM)
        for variant, first, tiles in self._ranges:
            offset = int(self._table[tiles.job, descriptor.INPUT.value])
            tiles.fill(items[first : first + tiles.count], self.jobs[tiles.job], variant, offset)
        raw = buffer.view(np.uint8)
        for operand in self._packed:
            values = as_bytes(operand.values)
            if operand.pitch_bytes:
                rows = values.reshape(-1, operand.row_bytes)
                end = operand.offset + rows.shape[0] * operand.pitch_bytes
                raw[operand.offset : end].reshape(-1, operand.pitch_bytes)[:, : operand.row_bytes] = rows
            else:
                raw[operand.offset : operand.offset + values.size] = values

    def results(self, buffer: npt.NDArray[np.int64]) -> Iterator[Computed]:
        """What the kernels left in `buffer`, as views of it where rows lie dense."""
        faults = buffer[: FAULTS * self.items].reshape(-1, FAULTS)
        owner = np.empty(self.items, np.int64)
        faulty = bool((faults != NO_FAULT).any())
        if faulty:
            for _, first, tiles in self._ranges:
                owner[first : first + tiles.count] = tiles.job
        raw = buffer.view(np.uint8)
        for number, job in enumerate(self.jobs):
            fault = _fault(job.formula, faults[owner == number]) if faulty else None
            if fault:
                yield Computed(fault=fault)
            else:
                yield _computed(job, self._variants[number], self._table[number], raw)


def _computed(job: Job, variant: KernelVariant, row: npt.NDArray[np.int64], raw: npt.NDArray[np.uint8]) -> Computed:
    """A job's results, found by its descriptor."""
    layout = job.layout
    pitch = row_pitch(job, variant)

    def taken(word: constexpr, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any] | None:
        offset = int(row[word.value])
        return None if offset < 0 else raw[offset : offset + count * dtype.itemsize].view(dtype)

    def elements(word: constexpr) -> npt.NDArray[Any] | None:
        if row[word.value] < 0:
            return None
        dtype = STORAGE[int(row[word.value + 1])]
        if pitch == layout.classes:
            return taken(word, dtype, layout.elements)
        rows = taken(word, dtype, layout.rows * pitch)
        assert rows is not None
        return np.ascontiguousarray(rows.reshape(-1, pitch)[:, : layout.classes]).reshape(-1)

    computed = Computed(
        losses=taken(descriptor.LOSSES, FLOAT64, layout.rows),
        values=elements(descriptor.VALUES),
        input_gradient=elements(descriptor.INPUT_GRADIENT),
        target_gradient=elements(descriptor.TARGET_GRADIENT),
        weight_gradient=taken(descriptor.WEIGHT_GRADIENT, FLOAT64, layout.classes),
    )
    for name in job.outputs:
        word, dtype = OUTPUTS[name]
        offset = int(row[word])
        computed.outputs[name] = raw[offset : offset + layout.rows * dtype.itemsize].view(dtype)
    if job.formula.elementwise and not job.formula.activation:
        computed.losses, computed.values = computed.values, None
        run_sums = taken(descriptor.RUN_SUMS, FLOAT64, layout.chunks * runs_per_chunk(job))
        assert run_sums is not None
        # A running sum adds in order; numpy's sum does not.
        computed.chunk_sums = (
            np.cumsum(run_sums.reshape(layout.chunks, -1), axis=1)[:, -1] if layout.chunks else run_sums
        )
    return computed


def _fault(formula: Formula, faults: npt.NDArray[np.int64]) -> tuple[Fault, int] | None:
    """The first offending value of a job: of an element the lower index, of rows the kinds in this order."""
    if not len(faults):
        return None
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

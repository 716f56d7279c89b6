"""The work list of a batch: which tiles of which jobs each launch computes, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossd_server.backends.triton.kernel_variants import KernelVariant
from lossd_server.backends.triton.variant_choice import (
    blocks_per_row,
    class_weight_gradient_variant,
    count_tiles,
    elements_per_chunk,
    row_pitch,
    runs_per_chunk,
)
from lossd_server.jobs.job import Job
from lossd_server.tensors.array import STORAGE

# Bytes of long rows that are summed before their gradients are computed: they are read again, from L2 where they still
# lie there. Half of 50 MB, since a line that the other half of the chip asks for is kept twice.
GROUP_BYTES = 24 << 20


@dataclass(frozen=True, slots=True)
class TileRange:
    """Tiles `first`, `first` + `step`, … of a job: `count` work items."""

    job: int
    first: int
    count: int
    step: int = 1

    def fill(self, work: npt.NDArray[np.int64], job: Job, variant: KernelVariant, offset: int) -> None:
        """Writes the work items, [count, ITEM]; `offset` is the input's, in bytes."""
        if not variant.in_registers:
            work[:, 0] = self.job
            work[:, 1] = np.arange(self.first, self.first + self.count)
            return
        if self.count == 1 and variant.kernel == "softmax_in_registers":  # most small requests: numpy would cost more
            row = self.first * variant.tile
            count = min(variant.tile, job.layout.rows - row)
            work[0] = (self.job, self.first, row * _row_bytes(job, variant) + offset, count << 32 | job.layout.classes)
            return
        tile: npt.NDArray[np.int64] = np.arange(self.count, dtype=np.int64) * self.step + self.first
        begin, counts = _extents(tile, job, variant)
        work[:, 0] = self.job
        work[:, 1] = tile
        work[:, 2] = begin + offset
        work[:, 3] = (counts << 32) | (0 if job.formula.elementwise else job.layout.classes)


def _row_bytes(job: Job, variant: KernelVariant) -> int:
    return row_pitch(job, variant) * STORAGE[variant.dtype].itemsize


def _extents(
    tile: npt.NDArray[np.int64], job: Job, variant: KernelVariant
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each tile begins, in bytes, and its rows; its entries, of a block of a row and of a run of elements."""
    layout = job.layout
    size = STORAGE[variant.dtype].itemsize
    if variant.kernel == "elementwise_in_registers":
        chunk = elements_per_chunk(job)
        number, run = np.divmod(tile, runs_per_chunk(job))
        begin = number * chunk + run * variant.block
        ends = np.minimum((number + 1) * chunk, layout.elements)
        return begin * size, np.minimum(variant.block, ends - begin)
    if variant.kernel == "softmax_in_registers":
        first_row = tile * variant.tile
        return first_row * _row_bytes(job, variant), np.minimum(variant.tile, layout.rows - first_row)
    row, block = np.divmod(tile, blocks_per_row(job, variant))
    begin = block * variant.block
    return row * _row_bytes(job, variant) + begin * size, np.minimum(variant.block, layout.classes - begin)


def plan_launches(
    jobs: Sequence[Job], variants: Sequence[KernelVariant]
) -> list[tuple[KernelVariant, list[TileRange]]]:
    """The launches in their order: one a variant, save for long rows whose gradient is wanted."""
    short: dict[KernelVariant, list[TileRange]] = {}
    long: dict[KernelVariant, list[int]] = {}
    last: dict[KernelVariant, list[TileRange]] = {}
    for number, (job, variant) in enumerate(zip(jobs, variants, strict=True)):
        if count := count_tiles(job, variant):
            if variant.kernel == "split_rows_sums":
                long.setdefault(variant, []).append(number)
            else:
                short.setdefault(variant, []).append(TileRange(number, 0, count))
        gradient = class_weight_gradient_variant(job)
        if gradient is not None and (count := count_tiles(job, gradient)):
            last.setdefault(gradient, []).append(TileRange(number, 0, count))
    launches = list(short.items())
    for variant, members in long.items():
        launches += _plan_split_rows(jobs, members, variant)
    return launches + list(last.items())


def _plan_split_rows(
    jobs: Sequence[Job], members: list[int], variant: KernelVariant
) -> list[tuple[KernelVariant, list[TileRange]]]:
    """Sums and outputs of long rows by turns, so many rows at a time that what is read again is still in L2."""
    second = replace(variant, kernel="split_rows_outputs")
    launches: list[tuple[KernelVariant, list[TileRange]]] = []
    sums: list[TileRange] = []
    outputs: list[TileRange] = []
    room = GROUP_BYTES
    for number in members:
        job = jobs[number]
        blocks, rows = blocks_per_row(job, variant), job.layout.rows
        if not (job.input_gradient or job.target_gradient or job.formula.activation):
            # Nothing is read again: rows need not be together, and one block of each writes its loss.
            sums.append(TileRange(number, 0, rows * blocks))
            outputs.append(TileRange(number, 0, rows, blocks))
            continue
        row_bytes = job.layout.classes * STORAGE[variant.dtype].itemsize
        done = 0
        while done < rows:
            taken = min(rows - done, max(1, room // row_bytes))
            sums.append(TileRange(number, done * blocks, taken * blocks))
            outputs.append(TileRange(number, done * blocks, taken * blocks))
            done += taken
            room -= taken * row_bytes
            if room < row_bytes:
                launches += [(variant, sums), (second, outputs)]
                sums, outputs, room = [], [], GROUP_BYTES
    if sums:
        launches += [(variant, sums), (second, outputs)]
    return launches

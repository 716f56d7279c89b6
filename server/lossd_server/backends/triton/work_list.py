"""The work list: which tiles of which jobs each launch takes, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossd_server.backends.triton.kernel_variants import KernelVariant
from lossd_server.backends.triton.kernels import softmax_split_rows
from lossd_server.backends.triton.variant_choice import (
    blocks_per_row,
    class_weight_gradient_variant,
    elements_per_chunk,
    row_pitch,
    runs_per_chunk,
    tiles,
)
from lossd_server.jobs.job import Job
from lossd_server.tensors.array import STORAGE

# Bytes of long rows that are summed before their gradients are taken: they are read again, from L2 where they still
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
        if not variant.held:
            work[:, 0] = self.job
            work[:, 1] = np.arange(self.first, self.first + self.count)
            return
        layout = job.layout
        row_bytes = row_pitch(job, variant) * STORAGE[variant.dtype].itemsize
        if (
            self.count == 1 and variant.kernel == "softmax_in_registers"
        ):  # most small requests: without numpy's overhead
            row = self.first * variant.tile
            count = min(variant.tile, layout.rows - row)
            work[0] = (self.job, self.first, row * row_bytes + offset, count << 32 | layout.classes)
            return
        tile: npt.NDArray[np.int64] = np.arange(self.count, dtype=np.int64) * self.step + self.first
        work[:, 0] = self.job
        work[:, 1] = tile
        size = STORAGE[variant.dtype].itemsize
        if variant.kernel == "elementwise_in_registers":
            chunk = elements_per_chunk(job)
            number, run = np.divmod(tile, runs_per_chunk(job))
            begin = number * chunk + run * variant.block
            work[:, 2] = begin * size + offset
            held = np.minimum(np.minimum(variant.block, (number + 1) * chunk - begin), layout.elements - begin)
        elif variant.kernel == "softmax_in_registers":
            work[:, 2] = tile * (variant.tile * row_bytes) + offset
            held = np.minimum(variant.tile, layout.rows - tile * variant.tile)
        else:
            number, piece = np.divmod(tile, blocks_per_row(job, variant))
            begin = piece * variant.block
            work[:, 2] = number * row_bytes + begin * size + offset
            held = np.minimum(variant.block, layout.classes - begin)
        work[:, 3] = (held << 32) | (0 if variant.kernel == "elementwise_in_registers" else layout.classes)


def plan_launches(
    jobs: Sequence[Job], variants: Sequence[KernelVariant]
) -> list[tuple[KernelVariant, list[TileRange]]]:
    """The launches in their order, each with its runs: one a variant, save for long rows whose gradient is wanted."""
    first: dict[KernelVariant, list[TileRange]] = {}
    long: dict[KernelVariant, list[int]] = {}
    later: dict[KernelVariant, list[TileRange]] = {}
    for number, (job, variant) in enumerate(zip(jobs, variants, strict=True)):
        if count := tiles(job, variant):
            if variant.kernel == "softmax_split_rows":
                long.setdefault(variant, []).append(number)
            else:
                first.setdefault(variant, []).append(TileRange(number, 0, count))
        last = class_weight_gradient_variant(job)
        if last is not None and (count := tiles(job, last)):
            later.setdefault(last, []).append(TileRange(number, 0, count))
    launches = list(first.items())
    for variant, members in long.items():
        launches += _of_long_rows(jobs, members, variant)
    return launches + list(later.items())


def _of_long_rows(
    jobs: Sequence[Job], members: list[int], variant: KernelVariant
) -> list[tuple[KernelVariant, list[TileRange]]]:
    """Sums and gradients of long rows by turns, so many rows at a time that what is read again is still in L2."""
    finish = replace(variant, phase=softmax_split_rows.FINISH.value)
    launches: list[tuple[KernelVariant, list[TileRange]]] = []
    sums: list[TileRange] = []
    ends: list[TileRange] = []
    room = GROUP_BYTES
    for number in members:
        job = jobs[number]
        count, rows = blocks_per_row(job, variant), job.layout.rows
        wanted = job.input_gradient or job.target_gradient or job.formula.activation
        if not wanted:  # nothing is read again: its rows need not be together
            sums.append(TileRange(number, 0, rows * count))
            ends.append(TileRange(number, 0, rows, count))
            continue
        row_bytes = job.layout.classes * STORAGE[variant.dtype].itemsize
        done = 0
        while done < rows:
            taken = min(rows - done, max(1, room // row_bytes))
            sums.append(TileRange(number, done * count, taken * count))
            ends.append(TileRange(number, done * count, taken * count))
            done += taken
            room -= taken * row_bytes
            if room < row_bytes:
                launches += [(variant, sums), (finish, ends)]
                sums, ends, room = [], [], GROUP_BYTES
    if sums:
        launches += [(variant, sums), (finish, ends)]
    return launches

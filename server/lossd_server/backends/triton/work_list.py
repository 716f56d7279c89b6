"""The work list: which tiles of which jobs each launch takes, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossd_server.backends.triton.kernel_variants import Configuration
from lossd_server.backends.triton.kernels import softmax_split_rows
from lossd_server.backends.triton.variant_choice import afterwards, chunk_elements, pieces_of, pitch_of, runs, tiles
from lossd_server.jobs.job import Job
from lossd_server.tensors.array import STORAGE

# Bytes of long rows that are summed before their gradients are taken: they are read again, from L2 where they still
# lie there. Half of 50 MB, since a line that the other half of the chip asks for is kept twice.
GROUP_BYTES = 24 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles `first`, `first` + `step`, … of a job: `count` work items."""

    job: int
    first: int
    count: int
    step: int = 1

    def fill(self, work: npt.NDArray[np.int64], job: Job, configuration: Configuration, offset: int) -> None:
        """Writes the work items, [count, ITEM]; `offset` is the input's, in bytes."""
        if not configuration.held:
            work[:, 0] = self.job
            work[:, 1] = np.arange(self.first, self.first + self.count)
            return
        layout = job.layout
        row_bytes = pitch_of(job, configuration) * STORAGE[configuration.dtype].itemsize
        if self.count == 1 and configuration.kernel == "resident":  # most small requests: without numpy's overhead
            row = self.first * configuration.tile
            count = min(configuration.tile, layout.rows - row)
            work[0] = (self.job, self.first, row * row_bytes + offset, count << 32 | layout.classes)
            return
        tile: npt.NDArray[np.int64] = np.arange(self.count, dtype=np.int64) * self.step + self.first
        work[:, 0] = self.job
        work[:, 1] = tile
        size = STORAGE[configuration.dtype].itemsize
        if configuration.kernel == "elements":
            chunk = chunk_elements(job)
            number, run = np.divmod(tile, runs(job))
            begin = number * chunk + run * configuration.block
            work[:, 2] = begin * size + offset
            held = np.minimum(np.minimum(configuration.block, (number + 1) * chunk - begin), layout.elements - begin)
        elif configuration.kernel == "resident":
            work[:, 2] = tile * (configuration.tile * row_bytes) + offset
            held = np.minimum(configuration.tile, layout.rows - tile * configuration.tile)
        else:
            number, piece = np.divmod(tile, pieces_of(job, configuration))
            begin = piece * configuration.block
            work[:, 2] = number * row_bytes + begin * size + offset
            held = np.minimum(configuration.block, layout.classes - begin)
        work[:, 3] = (held << 32) | (0 if configuration.kernel == "elements" else layout.classes)


def plan_launches(jobs: Sequence[Job], variants: Sequence[Configuration]) -> list[tuple[Configuration, list[Run]]]:
    """The launches in their order, each with its runs: one a variant, save for long rows whose gradient is wanted."""
    first: dict[Configuration, list[Run]] = {}
    long: dict[Configuration, list[int]] = {}
    later: dict[Configuration, list[Run]] = {}
    for number, (job, variant) in enumerate(zip(jobs, variants, strict=True)):
        if count := tiles(job, variant):
            if variant.kernel == "pieces":
                long.setdefault(variant, []).append(number)
            else:
                first.setdefault(variant, []).append(Run(number, 0, count))
        last = afterwards(job)
        if last is not None and (count := tiles(job, last)):
            later.setdefault(last, []).append(Run(number, 0, count))
    launches = list(first.items())
    for variant, members in long.items():
        launches += _of_long_rows(jobs, members, variant)
    return launches + list(later.items())


def _of_long_rows(
    jobs: Sequence[Job], members: list[int], variant: Configuration
) -> list[tuple[Configuration, list[Run]]]:
    """Sums and gradients of long rows by turns, so many rows at a time that what is read again is still in L2."""
    finish = replace(variant, phase=softmax_split_rows.FINISH.value)
    launches: list[tuple[Configuration, list[Run]]] = []
    sums: list[Run] = []
    ends: list[Run] = []
    room = GROUP_BYTES
    for number in members:
        job = jobs[number]
        count, rows = pieces_of(job, variant), job.layout.rows
        wanted = job.input_gradient or job.target_gradient or job.formula.activation
        if not wanted:  # nothing is read again: its rows need not be together
            sums.append(Run(number, 0, rows * count))
            ends.append(Run(number, 0, rows, count))
            continue
        row_bytes = job.layout.classes * STORAGE[variant.dtype].itemsize
        done = 0
        while done < rows:
            taken = min(rows - done, max(1, room // row_bytes))
            sums.append(Run(number, done * count, taken * count))
            ends.append(Run(number, done * count, taken * count))
            done += taken
            room -= taken * row_bytes
            if room < row_bytes:
                launches += [(variant, sums), (finish, ends)]
                sums, ends, room = [], [], GROUP_BYTES
    if sums:
        launches += [(variant, sums), (finish, ends)]
    return launches

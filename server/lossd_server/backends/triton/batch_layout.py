"""Memory layout of a batch: each job's descriptor, where its operands lie, and where its results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd.contract import gradient_dtype
from lossd_server.backends.triton import descriptor
from lossd_server.backends.triton.kernel_variants import KernelVariant
from lossd_server.backends.triton.operand_conversion import collapse_view, convert_operand, dtype_code
from lossd_server.backends.triton.variant_choice import (
    INDEXED,
    blocks_per_row,
    compute_of,
    elements_per_chunk,
    row_pitch,
    runs_per_chunk,
)
from lossd_server.jobs.job import Formula, Job, Kind, Launch
from lossd_server.tensors.array import STORAGE, Array, View

ALIGNMENT = 16
# What the input of a formula means where the formula says it.
KINDS: dict[Formula, Kind] = {
    Formula.NLL: Kind.LOG_PROBABILITIES,
    Formula.ENTROPY_PROBABILITIES: Kind.PROBABILITIES,
    Formula.ENTROPY_COUNTS: Kind.COUNTS,
}
# Bytes of an entry of a by-product, and the descriptor's word for it.
OUTPUTS: dict[str, tuple[int, np.dtype[Any]]] = {
    "lse": (descriptor.LSE.value, np.dtype(np.float64)),
    "entropy": (descriptor.ENTROPY.value, np.dtype(np.float64)),
    "argmax": (descriptor.ARGMAX.value, np.dtype(np.int64)),
    "correct": (descriptor.CORRECT.value, np.dtype(np.uint8)),
}


class BumpAllocator:
    """Offsets in a buffer that only grows."""

    def __init__(self, size: int) -> None:
        self.size = size

    def reserve(self, size: int) -> int:
        """The offset of `size` further bytes."""
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        self.size = offset + size
        return offset


class OperandCopy(NamedTuple):
    """An operand to be copied to `offset`: rows of `row_bytes` at a pitch of `pitch_bytes`, or all of it (pitch 0)."""

    offset: int
    values: npt.NDArray[Any]
    row_bytes: int = 0
    pitch_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes there."""
        return self.values.nbytes // self.row_bytes * self.pitch_bytes if self.pitch_bytes else self.values.nbytes


class BatchLayout:
    """Lays jobs out one after the other. `packed`: every operand that the host copies into the staging buffer.

    direct: whether the device may copy an operand from where it lies instead.
    """

    def __init__(self, operand_bytes: int, result_bytes: int, direct: Callable[[npt.NDArray[Any]], bool]) -> None:
        self.operands = BumpAllocator(operand_bytes)
        self.results = BumpAllocator(result_bytes)
        self.packed: list[OperandCopy] = []
        self._is_direct = direct
        self._direct: list[tuple[int, int, OperandCopy]] = []  # job, word of its offset
        self._jobs = 0
        self._pitch = 0  # entries from one row of the job to the next, where that is not C

    def place_direct_operands(self, rows: npt.NDArray[np.int64]) -> list[OperandCopy]:
        """Offsets after all else for the operands that are not packed, written into the descriptors."""
        copies = []
        for job, word, copy in self._direct:
            offset = self.operands.reserve(copy.size)
            rows[job, word] = offset
            copies.append(copy._replace(offset=offset))
        return copies

    def add(self, launch: Launch, variant: KernelVariant, row: npt.NDArray[np.int64]) -> None:
        """Fills a descriptor, all of whose words are −1, and reserves memory for the job's operands and results."""
        job = launch.job
        layout = job.layout
        self._jobs += 1
        pitch = row_pitch(job, variant)
        row[descriptor.PITCH.value] = pitch * layout.inner
        self._pitch = pitch if pitch != layout.classes else 0
        row[descriptor.FORMULA.value] = job.formula.value
        row[descriptor.ROWS.value] = layout.elements if job.formula.elementwise else layout.rows
        row[descriptor.CLASSES.value] = layout.classes
        row[descriptor.INNER.value] = layout.inner
        row[descriptor.IGNORE_INDEX.value] = job.ignore_index
        row[descriptor.INPUT_KIND.value] = KINDS.get(job.formula, job.input_kind).value
        row[descriptor.TARGET_KIND.value] = job.target_kind.value
        numbers = row.view(np.float64)
        numbers[descriptor.SCALE_BITS.value] = launch.scale
        numbers[descriptor.KEEP_BITS.value] = 1.0 - job.label_smoothing
        numbers[descriptor.SMOOTH_BITS.value] = job.label_smoothing / layout.classes if layout.classes else 0.0
        numbers[descriptor.Z_LOSS_BITS.value] = job.z_loss
        numbers[descriptor.SOFTCAP_BITS.value] = job.softcap
        self._add_operand(row, descriptor.INPUT.value, job.input.values, job.input.dtype, job)
        if job.target is not None and job.formula in INDEXED:
            row[descriptor.TARGET.value] = self._pack(job.target.values)
        elif job.target is not None:
            self._add_operand(row, descriptor.TARGET.value, job.target.values, job.target.dtype, job)
        if job.class_weight is not None:
            row[descriptor.CLASS_WEIGHT.value] = self._pack(job.class_weight.astype(compute_of(job), copy=False))
        if job.row_weight is not None:
            row[descriptor.ROW_WEIGHT.value] = self._pack(job.row_weight)
        if job.row_upstream is not None:
            row[descriptor.ROW_UPSTREAM.value] = self._pack(job.row_upstream)
        self._add_view(row, descriptor.WEIGHT.value, job.weight, job)
        self._add_view(row, descriptor.POS_WEIGHT.value, job.pos_weight, job)
        self._add_view(row, descriptor.UPSTREAM.value, job.upstream, job)
        if variant.kernel == "split_rows_sums":
            row[descriptor.ROW_BLOCKS.value] = blocks_per_row(job, variant)
            sums = layout.rows * blocks_per_row(job, variant) * descriptor.SUMS_PER_BLOCK.value
            row[descriptor.BLOCK_SUMS.value] = self.results.reserve(sums * 4)
        self._reserve_results(row, launch)

    def _reserve_results(self, row: npt.NDArray[np.int64], launch: Launch) -> None:
        """Offsets of what the kernels write, into the descriptor."""
        job = launch.job
        layout = job.layout
        if job.formula.elementwise:
            row[descriptor.CHUNK.value] = elements_per_chunk(job)
            row[descriptor.RUNS.value] = runs_per_chunk(job)
        if job.formula.activation:
            self._reserve_elements(row, descriptor.VALUES.value, gradient_dtype(job.input.dtype), job)
        elif job.formula.elementwise:
            row[descriptor.RUN_SUMS.value] = self.results.reserve(layout.chunks * runs_per_chunk(job) * 8)
        else:
            row[descriptor.LOSSES.value] = self.results.reserve(layout.rows * 8)
        if (
            job.keep_losses
            and (job.formula is Formula.KL_ROWS or job.formula.elementwise)
            and not job.formula.activation
        ):
            self._reserve_elements(row, descriptor.VALUES.value, dtype_code(job.compute), job)
        for name in job.outputs:
            word, dtype = OUTPUTS[name]
            row[word] = self.results.reserve(layout.rows * dtype.itemsize)
        if job.weight_gradient:
            if launch.weight_gradient is not None:
                row[descriptor.WEIGHT_START.value] = self._pack(launch.weight_gradient)
            row[descriptor.STATES.value] = self.results.reserve(layout.rows * 16)
            row[descriptor.WEIGHT_GRADIENT.value] = self.results.reserve(layout.classes * 8)
        if job.input_gradient:
            self._reserve_elements(row, descriptor.INPUT_GRADIENT.value, _gradient(job.input), job)
        if job.target_gradient and job.target is not None:
            self._reserve_elements(row, descriptor.TARGET_GRADIENT.value, _gradient(job.target), job)

    def _add_operand(
        self, row: npt.NDArray[np.int64], word: int, values: npt.NDArray[Any], dtype: int, job: Job
    ) -> None:
        """The offset at `word`, the dtype after it."""
        taken, row[word + 1] = convert_operand(values, dtype, job.compute)
        copy = OperandCopy(0, taken)
        if self._pitch and word in (descriptor.INPUT.value, descriptor.TARGET.value):
            copy = OperandCopy(0, taken, job.layout.classes * taken.itemsize, self._pitch * taken.itemsize)
        if taken is values and self._is_direct(values):
            self._direct.append((self._jobs - 1, word, copy))
            return
        row[word] = offset = self.operands.reserve(copy.size)
        self.packed.append(copy._replace(offset=offset))

    def _add_view(self, row: npt.NDArray[np.int64], word: int, view: View | None, job: Job) -> None:
        if view is None:
            return
        values, strides = collapse_view(view)
        self._add_operand(row, word + descriptor.VIEW_OFFSET.value, values, view.dtype, job)
        row[word + descriptor.VIEW_MIDDLE.value : word + descriptor.VIEW_MIDDLE.value + len(strides)] = strides

    def _reserve_elements(self, row: npt.NDArray[np.int64], word: int, dtype: int, job: Job) -> None:
        """Memory for one number an element: the offset at `word`, the dtype after it."""
        row[word + 1] = dtype
        entries = job.layout.rows * self._pitch if self._pitch else job.layout.elements
        row[word] = self.results.reserve(entries * STORAGE[dtype].itemsize)

    def _pack(self, values: npt.NDArray[Any]) -> int:
        offset = self.operands.reserve(values.nbytes)
        self.packed.append(OperandCopy(offset, values))
        return offset


def _gradient(operand: Array) -> int:
    return gradient_dtype(operand.dtype)

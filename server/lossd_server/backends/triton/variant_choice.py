"""Which kernels compute a job, and in which shape: fixed by (formula, C, dtypes), so that bits are too."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.kernel_variants import KernelVariant
from lossd_server.backends.triton.kernels import softmax_split_rows
from lossd_server.backends.triton.operand_conversion import kernel_dtype
from lossd_server.jobs.job import RUN, Formula, Job, Layout
from lossd_server.tensors.array import STORAGE

# Largest C, then rows of a tile, classes of a block, warps, lanes of a row. Rows in registers: 32 entries a lane, so
# that the gradient's exponentials stay there and several programs share a multiprocessor.
REGISTER_TILES: tuple[tuple[int, int, int, int, int], ...] = (
    (16, 128, 16, 4, 2),
    (32, 128, 32, 4, 2),
    (64, 64, 64, 4, 2),
    (128, 32, 128, 4, 4),
    (256, 16, 256, 4, 8),
    (512, 8, 512, 4, 16),
    (1024, 4, 1024, 4, 32),
    (2048, 1, 2048, 2, 64),
    (4096, 1, 4096, 4, 128),
    (8192, 1, 8192, 8, 256),
    (16384, 1, 16384, 16, 512),
)
# The others: about 2,048 entries a step, rows of one block where C is small.
GENERAL_TILES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "softmax_general": ((16, 64, 16, 4), (64, 32, 64, 4), (256, 8, 256, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
    "distributions": ((32, 32, 32, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
}
SPLIT_WARPS = 8
ELEMENTWISE_WARPS = 8
ELEMENT_WARPS = 16  # of elements without weights: 8 a lane
CLASS_BLOCK = 128  # classes of a work item of the class weights' gradient
CLASS_WARPS = 4
MOST_CLASSES = 16384  # classes of a row in registers; longer ones are cut into pieces of half of it
MOST_CLASSES_HEAVY = 4096  # the same where more than one number an entry is kept; pieces of as many
# The most registers of a thread: six programs of four warps share a multiprocessor, and nothing is spilled.
REGISTERS = 80
WIDE_REGISTERS = 112  # with 64 entries a lane
HEAVY_REGISTERS = 128  # with by-products, or two tensors
DENSE = 64  # classes up to which rows in registers lie dense, not at a pitch of whole vectors

SOFTMAX = frozenset(
    {
        Formula.CROSS_ENTROPY_INDEX,
        Formula.CROSS_ENTROPY_DISTRIBUTION,
        Formula.ENTROPY_LOGITS,
        Formula.SOFTMAX,
        Formula.LOG_SOFTMAX,
    }
)
INDEXED = frozenset({Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_KINDS_INDEX, Formula.NLL})


def compute_of(job: Job) -> np.dtype[Any]:
    """What the job's kernel computes in: float64 under a softcap, whose float32 rounding would show in every loss."""
    return np.dtype(np.float64) if job.softcap > 0 else job.compute


class VariantKey(NamedTuple):
    """What the choice of a variant depends on."""

    formula: Formula
    classes: int
    compute: str
    dtype: int  # as kernels read the input
    target_dtype: int  # and the target's distribution, where there is one; else the input's
    smoothed: bool
    outputs: bool
    plain: bool  # classes are the last dimension (of rows); no weights, no upstream gradients of elements
    graded: bool  # the input's gradient is wanted


def choose_variant(job: Job) -> KernelVariant:
    """The variant for `job`; of long rows in pieces the one that sums."""
    target = job.target if job.formula not in INDEXED else None
    plain = job.layout.inner == 1 and job.weight is None and job.pos_weight is None and job.upstream is None
    return _variant_of(
        VariantKey(
            job.formula,
            job.layout.classes,
            compute_of(job).name,
            kernel_dtype(job.input.dtype, job.compute),
            kernel_dtype((target or job.input).dtype, job.compute),
            job.label_smoothing > 0,
            bool(job.outputs),
            plain,
            job.input_gradient,
        )
    )


@lru_cache(4096)
def _variant_of(job: VariantKey) -> KernelVariant:
    if job.formula.elementwise:
        if job.plain and job.compute == "float32":
            return _elements(job)
        return KernelVariant("elementwise_general", job.compute, 1, RUN, ELEMENTWISE_WARPS)
    if job.formula in SOFTMAX:
        # An activation's gradient takes a view of any strides.
        short = job.classes < 2**31 and not (job.formula.activation and job.graded)
        if job.plain and job.compute == "float32" and short:
            return _registers(job)
    kernel = "softmax_general" if job.formula in SOFTMAX else "distributions"
    _, tile, block, warps = next(shape for shape in GENERAL_TILES[kernel] if job.classes <= shape[0])
    return KernelVariant(kernel, job.compute, tile, block, warps)


def _entries_of_16_bytes(job: VariantKey) -> int:
    return 16 // min(STORAGE[job.dtype].itemsize, STORAGE[job.target_dtype].itemsize)


def _elements(job: VariantKey) -> KernelVariant:
    chunk = Layout(1, job.classes, 1).chunk_items * job.classes  # a whole one: the same of any part of the job
    return KernelVariant(
        "elementwise_in_registers",
        "float32",
        1,
        RUN,
        ELEMENT_WARPS,
        formula=job.formula.value,
        dtype=job.dtype,
        target_dtype=job.target_dtype,
        value_dtype=job.dtype if job.formula.activation else pb.DATA_TYPE_FLOAT32,
        vector=gcd(chunk, _entries_of_16_bytes(job)),
    )


def _registers(job: VariantKey) -> KernelVariant:
    soft_labels = job.formula is Formula.CROSS_ENTROPY_DISTRIBUTION
    soft_labels |= job.formula is Formula.CROSS_ENTROPY_INDEX and job.smoothed
    full = _entries_of_16_bytes(job)
    vector = full if job.classes > DENSE else gcd(job.classes, full)
    heavy = soft_labels or job.outputs or job.formula is Formula.ENTROPY_LOGITS  # keep more numbers an entry
    halves = STORAGE[job.dtype].itemsize == 2 and not heavy  # 64 entries a lane: what is done once a row costs less
    longest = MOST_CLASSES_HEAVY if heavy else MOST_CLASSES
    if job.classes > longest:
        piece = longest if heavy else longest // 2
        found = KernelVariant(
            "softmax_split_rows", "float32", 1, piece, SPLIT_WARPS // (1 + halves), phase=softmax_split_rows.SUM.value
        )
    else:
        _, tile, block, warps, lanes = next(shape for shape in REGISTER_TILES if job.classes <= shape[0])
        if heavy and tile > 1:
            tile, lanes = tile // 2, lanes * 2
        elif heavy:
            warps *= 2
        elif halves and tile == 1:
            warps //= 2
        elif halves and block == 1024:
            tile, lanes = tile * 2, lanes // 2
        found = KernelVariant(
            "softmax_in_registers", "float32", tile, block, warps, lanes=block if tile == 1 else lanes
        )
    return replace(
        found,
        formula=job.formula.value,
        soft_labels=soft_labels,
        outputs=job.outputs,
        dtype=job.dtype,
        target_dtype=job.target_dtype,
        vector=vector,
        padded=job.classes % vector != 0,
        registers=_registers_of(job, found, heavy),
    )


def _registers_of(job: VariantKey, found: KernelVariant, heavy: bool) -> int:
    """As few as nothing is spilled with."""
    if found.warps == 16:
        return 64
    if found.block // (found.lanes if found.tile > 1 else 32 * found.warps) == 64:
        return WIDE_REGISTERS
    if not heavy:
        return REGISTERS
    if found.warps < 8:
        return 0
    return HEAVY_REGISTERS if job.outputs or job.formula is Formula.CROSS_ENTROPY_DISTRIBUTION else REGISTERS


def row_pitch(job: Job, variant: KernelVariant) -> int:
    """Entries from one row to the next in the batch's buffers: C, or C up to whole vectors."""
    if variant.kernel not in ("softmax_in_registers", "softmax_split_rows"):
        return job.layout.classes
    return ceil(job.layout.classes / variant.vector) * variant.vector


def class_weight_gradient_variant(job: Job) -> KernelVariant | None:
    """The variant of the kernel that runs once all others of the batch have: the class weights' gradient."""
    if not job.weight_gradient:
        return None
    return KernelVariant("class_weight_gradient", compute_of(job).name, 1, CLASS_BLOCK, CLASS_WARPS)


def blocks_per_row(job: Job, variant: KernelVariant) -> int:
    """Pieces of a long row."""
    return ceil(job.layout.classes / variant.block)


def tiles(job: Job, variant: KernelVariant) -> int:
    """Work items of `job`."""
    if variant.kernel == "class_weight_gradient":
        return ceil(job.layout.classes / variant.block)
    if variant.kernel == "softmax_split_rows":
        return job.layout.rows * blocks_per_row(job, variant)
    if job.formula.elementwise:
        return job.layout.chunks * runs_per_chunk(job)
    return ceil(job.layout.rows / variant.tile)


def elements_per_chunk(job: Job) -> int:
    """Elements of a whole chunk of the elementwise family; of the job where it has less than one."""
    return min(job.layout.chunk_items, job.layout.outer) * job.layout.classes


def runs_per_chunk(job: Job) -> int:
    """Runs of a chunk of the elementwise family."""
    return ceil(elements_per_chunk(job) / RUN)

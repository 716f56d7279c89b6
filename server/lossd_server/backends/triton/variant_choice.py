"""Dispatch: which kernel variant computes a job. Fixed by (formula, C, dtypes), so that a result's bits are too."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.kernel_variants import SOFTMAX_TILES, TYPES, KernelVariant
from lossd_server.backends.triton.operand_conversion import kernel_dtype
from lossd_server.jobs.job import RUN, Formula, Job, Layout
from lossd_server.tensors.array import STORAGE


class TileShape(NamedTuple):
    """The tile of rows of up to `most_classes` classes."""

    most_classes: int
    rows: int
    block: int  # classes of a step; in registers, of the tile
    warps: int
    lanes: int = 0  # of a row in registers


ANY_NUMBER = 2**63
# Classes of a row are int32 in kernels whose tile is in registers, up to a whole vector and a whole block beyond the
# last; longer rows are computed by the general kernels, whose numbers are int64.
MOST_CLASSES_INT32 = 2**31 - 1 - 2**15
# Rows in registers: 32 entries a lane, so that the gradient's exponentials stay there and several programs share a
# multiprocessor.
REGISTER_TILES = (
    TileShape(16, rows=128, block=16, warps=4, lanes=2),
    TileShape(32, rows=128, block=32, warps=4, lanes=2),
    TileShape(64, rows=64, block=64, warps=4, lanes=2),
    TileShape(128, rows=32, block=128, warps=4, lanes=4),
    TileShape(256, rows=16, block=256, warps=4, lanes=8),
    TileShape(512, rows=8, block=512, warps=4, lanes=16),
    TileShape(1024, rows=4, block=1024, warps=4, lanes=32),
    TileShape(2048, rows=1, block=2048, warps=2, lanes=64),
    TileShape(4096, rows=1, block=4096, warps=4, lanes=128),
    TileShape(8192, rows=1, block=8192, warps=8, lanes=256),
    TileShape(16384, rows=1, block=16384, warps=16, lanes=512),
)
# The general kernels: about 2,048 entries a step, rows of one block where C is small.
GENERAL_TILES = {
    "softmax_general": (
        TileShape(16, rows=64, block=16, warps=4),
        TileShape(64, rows=32, block=64, warps=4),
        TileShape(256, rows=8, block=256, warps=4),
        TileShape(1024, rows=2, block=1024, warps=4),
        TileShape(ANY_NUMBER, rows=1, block=2048, warps=8),
    ),
    "distributions": (
        TileShape(32, rows=32, block=32, warps=4),
        TileShape(1024, rows=2, block=1024, warps=4),
        TileShape(ANY_NUMBER, rows=1, block=2048, warps=8),
    ),
}
MOST_CLASSES = 16384  # of a row in registers; longer ones are split into blocks of half of it
MOST_CLASSES_HEAVY = 4096  # the same where more than one number an entry is kept; blocks of as many
SPLIT_WARPS = 8  # of a block of a long row
ELEMENTWISE_WARPS = 8
ELEMENT_WARPS = 16  # of elements without weights: 8 a lane
CLASS_BLOCK = 128  # classes of a work item of the class weights' gradient
CLASS_WARPS = 4
# The most registers of a thread: six programs of four warps share a multiprocessor, and nothing is spilled.
REGISTERS = 80
WIDE_REGISTERS = 112  # with 64 entries a lane
HEAVY_REGISTERS = 128  # with by-products, or two tensors
SIXTEEN_WARPS_REGISTERS = 64
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
    """What the choice of a variant depends on, and nothing else."""

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
    """The variant for `job`; of long rows the one that sums their blocks."""
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
def _variant_of(key: VariantKey) -> KernelVariant:
    # Others are read number by number: 8-bit floats are put together by hand.
    typed = key.plain and key.compute == "float32" and key.dtype in TYPES and key.target_dtype in TYPES
    if key.formula.elementwise:
        if typed:
            return _elementwise_in_registers(key)
        return KernelVariant("elementwise_general", key.compute, 1, RUN, ELEMENTWISE_WARPS)
    if key.formula in SOFTMAX:
        # An activation's gradient takes a view of any strides.
        short = key.classes <= MOST_CLASSES_INT32 and not (key.formula.activation and key.graded)
        if typed and short:
            return _softmax_tile(key)
    kernel = "softmax_general" if key.formula in SOFTMAX else "distributions"
    shape = _shape(GENERAL_TILES[kernel], key.classes)
    return KernelVariant(kernel, key.compute, shape.rows, shape.block, shape.warps)


def _shape(shapes: tuple[TileShape, ...], classes: int) -> TileShape:
    return next(shape for shape in shapes if classes <= shape.most_classes)


def _entries_of_16_bytes(key: VariantKey) -> int:
    return 16 // min(STORAGE[key.dtype].itemsize, STORAGE[key.target_dtype].itemsize)


def _elementwise_in_registers(key: VariantKey) -> KernelVariant:
    chunk = Layout(1, key.classes, 1).chunk_items * key.classes  # a whole one: the same of any part of the job
    return KernelVariant(
        "elementwise_in_registers",
        "float32",
        1,
        RUN,
        ELEMENT_WARPS,
        formula=key.formula.value,
        dtype=key.dtype,
        target_dtype=key.target_dtype,
        value_dtype=key.dtype if key.formula.activation else pb.DATA_TYPE_FLOAT32,
        vector=gcd(chunk, _entries_of_16_bytes(key)),
    )


def _softmax_tile(key: VariantKey) -> KernelVariant:
    soft_labels = key.formula is Formula.CROSS_ENTROPY_DISTRIBUTION
    soft_labels |= key.formula is Formula.CROSS_ENTROPY_INDEX and key.smoothed
    heavy = soft_labels or key.outputs or key.formula is Formula.ENTROPY_LOGITS  # keep more numbers an entry
    variant = _softmax_shape(key, heavy)
    full = _entries_of_16_bytes(key)
    vector = full if key.classes > DENSE else gcd(key.classes, full)
    return replace(
        variant,
        formula=key.formula.value,
        soft_labels=soft_labels,
        outputs=key.outputs,
        dtype=key.dtype,
        target_dtype=key.target_dtype,
        vector=vector,
        padded=key.classes % vector != 0,
        registers=_register_limit(key, variant, heavy),
    )


def _softmax_shape(key: VariantKey, heavy: bool) -> KernelVariant:
    """Kernel, tile and warps. heavy: fewer entries a lane."""
    wide = STORAGE[key.dtype].itemsize == 2 and not heavy  # 64 entries a lane: what is done once a row costs less
    most = MOST_CLASSES_HEAVY if heavy else MOST_CLASSES
    if key.classes > most:
        block = most if heavy else most // 2
        return KernelVariant("split_rows_sums", "float32", 1, block, SPLIT_WARPS // (1 + wide))
    _, rows, block, warps, lanes = _shape(REGISTER_TILES, key.classes)
    if heavy and rows > 1:
        rows, lanes = rows // 2, lanes * 2
    elif heavy:
        warps *= 2
    elif wide and rows == 1:
        warps //= 2
    elif wide and block == 1024:
        rows, lanes = rows * 2, lanes // 2
    lanes = block if rows == 1 else lanes
    return KernelVariant("softmax_in_registers", "float32", rows, block, warps, lanes=lanes)


def _register_limit(key: VariantKey, variant: KernelVariant, heavy: bool) -> int:
    """As few as nothing is spilled with."""
    if variant.warps == 16:
        return SIXTEEN_WARPS_REGISTERS
    if variant.block // (variant.lanes if variant.tile > 1 else 32 * variant.warps) == 64:
        return WIDE_REGISTERS
    if not heavy:
        return REGISTERS
    if variant.warps < 8:
        return 0
    return HEAVY_REGISTERS if key.outputs or key.formula is Formula.CROSS_ENTROPY_DISTRIBUTION else REGISTERS


def row_pitch(job: Job, variant: KernelVariant) -> int:
    """Entries from one row to the next in the batch's buffers: C, or C up to whole vectors."""
    if variant.kernel not in SOFTMAX_TILES:
        return job.layout.classes
    return ceil(job.layout.classes / variant.vector) * variant.vector


def class_weight_gradient_variant(job: Job) -> KernelVariant | None:
    """The variant of the kernel that runs once all others of the batch have: the class weights' gradient."""
    if not job.weight_gradient:
        return None
    return KernelVariant("class_weight_gradient", compute_of(job).name, 1, CLASS_BLOCK, CLASS_WARPS)


def blocks_per_row(job: Job, variant: KernelVariant) -> int:
    """Blocks of a long row."""
    return ceil(job.layout.classes / variant.block)


def count_tiles(job: Job, variant: KernelVariant) -> int:
    """Work items of `job`."""
    if variant.kernel == "class_weight_gradient":
        return ceil(job.layout.classes / variant.block)
    if variant.kernel == "split_rows_sums":
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

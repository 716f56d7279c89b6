"""Which kernels compute a job, and in which shape: fixed by (formula, C, dtypes), so that bits are too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Any

import numpy as np
import torch
import triton.language as tl

from lossd.v1 import tensor_pb2 as pb
from lossd_server.array import STORAGE, gradient_dtype
from lossd_server.backends.triton import pieces
from lossd_server.backends.triton.elements import element_runs
from lossd_server.backends.triton.elementwise import elementwise_runs
from lossd_server.backends.triton.kinds import kinds_rows
from lossd_server.backends.triton.operands import read_as
from lossd_server.backends.triton.resident import resident_rows
from lossd_server.backends.triton.softmax import softmax_rows
from lossd_server.backends.triton.weights import class_sums
from lossd_server.job import RUN, Formula, Job

# Largest C, then rows of a tile, classes of a block, warps, lanes of a row. Rows in registers: 32 entries a lane, so
# that the gradient's exponentials stay there and several programs share a multiprocessor.
RESIDENT: tuple[tuple[int, int, int, int, int], ...] = (
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
SHAPES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "softmax": ((16, 64, 16, 4), (64, 32, 64, 4), (256, 8, 256, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
    "kinds": ((32, 32, 32, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
}
PIECE_WARPS = 8
HELD_PIECES = 64  # of one row, that may wait for each other
ELEMENTWISE_WARPS = 8
ELEMENT_WARPS = 16  # of elements without weights: 8 a lane
CLASS_BLOCK = 128  # classes of a work item of the class weights' gradient
CLASS_WARPS = 4
LONGEST = 16384  # classes of a row in registers; longer ones are cut into pieces of half of it
LONGEST_HEAVY = 4096  # the same where more than one number an entry is kept; pieces of as many
# The most registers of a thread: six programs of four warps share a multiprocessor, and nothing is spilled. A program
# that waits for others holds its piece beside all else.
REGISTERS = 80
WIDE_REGISTERS = 112  # with 64 entries a lane
HELD_REGISTERS = 160
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
TYPES: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT16: tl.float16,
    pb.DATA_TYPE_BFLOAT16: tl.bfloat16,
    pb.DATA_TYPE_FLOAT32: tl.float32,
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A compiled variant of a kernel. tile: rows of a work item; block: classes of a step, or elements of a run.

    Of tiles in registers (kernels resident, pieces, elements): formula; whether every class has its weight in the loss
    (spread); whether by-products are wanted; dtypes of the input, of the target's distribution, of the values; entries
    of an access (vector); whether a row's last one is padded; lanes of a row; phase of pieces.py; the most registers a
    thread may take (0: no limit).
    """

    kernel: str  # of KERNELS
    compute: str  # "float32" or "float64"
    tile: int
    block: int
    warps: int
    formula: int = 0
    spread: bool = False
    outputs: bool = False
    dtype: int = 0
    target_dtype: int = 0
    value_dtype: int = 0
    vector: int = 1
    padded: bool = False
    lanes: int = 0
    registers: int = 0
    phase: int = 0

    @property
    def held(self) -> bool:
        """Whether the tile is held in registers."""
        return self.kernel in ("resident", "pieces", "elements")

    @property
    def run(self) -> int:
        """Entries of a row that one instruction takes."""
        return min(self.block, self.lanes * self.vector)

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options."""
        limit = {"maxnreg": self.registers} if self.registers else {}
        return {"num_warps": self.warps} | limit

    @property
    def constants(self) -> dict[str, Any]:
        """The kernel's constexpr arguments."""
        if self.kernel == "elements":
            return {
                "FORMULA": self.formula,
                "DTYPE": TYPES[self.dtype],
                "TARGET_DTYPE": TYPES[self.target_dtype],
                "VALUE_DTYPE": TYPES[self.value_dtype],
                "VEC": self.vector,
                "RUN": self.block,
            }
        if self.held:
            constants: dict[str, Any] = {
                "FORMULA": self.formula,
                "SPREAD": self.spread,
                "OUTPUTS": self.outputs,
                "DTYPE": TYPES[self.dtype],
                "TARGET_DTYPE": TYPES[self.target_dtype],
                "VEC": self.vector,
                "PADDED": self.padded,
                "BLOCK": self.block,
            }
            return constants | (
                {"PHASE": self.phase} if self.kernel == "pieces" else {"TILE": self.tile, "L": self.run}
            )
        constants = {"COMPUTE": tl.float64 if self.compute == "float64" else tl.float32}
        if self.kernel == "elementwise":
            return constants | {"RUN": self.block}
        if self.kernel == "weights":
            return constants | {"BLOCK": self.block}
        return constants | {"TILE": self.tile, "BLOCK": self.block}


KERNELS: dict[str, Any] = {
    "resident": resident_rows,
    "pieces": pieces.row_pieces,
    "softmax": softmax_rows,
    "kinds": kinds_rows,
    "elements": element_runs,
    "elementwise": elementwise_runs,
    "weights": class_sums,
}


def compute_of(job: Job) -> np.dtype[Any]:
    """What the job's kernel computes in: float64 under a softcap, whose float32 rounding would show in every loss."""
    return np.dtype(np.float64) if job.softcap > 0 else job.compute


def choose(job: Job) -> Configuration:
    """The variant for `job`; of long rows in pieces the one that sums."""
    compute = compute_of(job).name
    if job.formula.elementwise:
        return _elements(job) if _is_plain(job) else Configuration("elementwise", compute, 1, RUN, ELEMENTWISE_WARPS)
    if job.formula in SOFTMAX and _fits_registers(job):
        return _registers(job)
    kernel = "softmax" if job.formula in SOFTMAX else "kinds"
    _, tile, block, warps = next(shape for shape in SHAPES[kernel] if job.layout.classes <= shape[0])
    return Configuration(kernel, compute, tile, block, warps)


def _is_plain(job: Job) -> bool:
    """Elements in float32 without weights."""
    return compute_of(job) == np.float32 and job.weight is None and job.pos_weight is None and job.upstream is None


def _elements(job: Job) -> Configuration:
    dtype = read_as(job.input.dtype, job.compute)
    target_dtype = read_as(job.target.dtype, job.compute) if job.target is not None else dtype
    full = 16 // min(STORAGE[dtype].itemsize, STORAGE[target_dtype].itemsize)
    return Configuration(
        "elements",
        "float32",
        1,
        RUN,
        ELEMENT_WARPS,
        formula=job.formula.value,
        dtype=dtype,
        target_dtype=target_dtype,
        value_dtype=gradient_dtype(job.input.dtype) if job.formula.activation else pb.DATA_TYPE_FLOAT32,
        registers=0,
        vector=gcd(job.layout.chunk_items * job.layout.classes, full),  # of a whole chunk: of any part of the job
    )


def _fits_registers(job: Job) -> bool:
    """Dense rows in float32, save an activation's gradient, which takes a view of any strides."""
    return (
        job.layout.inner == 1
        and compute_of(job) == np.float32
        and job.layout.classes < 2**31
        and job.upstream is None
        and not (job.formula.activation and job.input_gradient)
    )


def _registers(job: Job) -> Configuration:
    classes = job.layout.classes
    dtype = read_as(job.input.dtype, job.compute)
    spread = job.formula is Formula.CROSS_ENTROPY_DISTRIBUTION
    target_dtype = read_as(job.target.dtype, job.compute) if spread and job.target is not None else dtype
    spread |= job.formula is Formula.CROSS_ENTROPY_INDEX and job.label_smoothing > 0
    full = 16 // min(STORAGE[dtype].itemsize, STORAGE[target_dtype].itemsize)
    vector = full if classes > DENSE else gcd(classes, full)
    heavy = spread or bool(job.outputs) or job.formula is Formula.ENTROPY_LOGITS  # keep more numbers an entry
    halves = STORAGE[dtype].itemsize == 2 and not heavy  # 64 entries a lane: what is done once a row costs less
    longest = LONGEST_HEAVY if heavy else LONGEST
    if classes > longest:
        piece = longest if heavy else longest // 2
        found = Configuration("pieces", "float32", 1, piece, PIECE_WARPS // (1 + halves), phase=pieces.SUM.value)
    else:
        _, tile, block, warps, lanes = next(shape for shape in RESIDENT if classes <= shape[0])
        if heavy and tile > 1:
            tile, lanes = tile // 2, lanes * 2
        elif heavy:
            warps *= 2
        elif halves and tile == 1:
            warps //= 2
        elif halves and block == 1024:
            tile, lanes = tile * 2, lanes // 2
        found = Configuration("resident", "float32", tile, block, warps, lanes=block if tile == 1 else lanes)
    return replace(
        found,
        formula=job.formula.value,
        spread=spread,
        outputs=bool(job.outputs),
        dtype=dtype,
        target_dtype=target_dtype,
        vector=vector,
        padded=classes % vector != 0,
        registers=_registers_of(job, found, heavy),
    )


def _registers_of(job: Job, found: Configuration, heavy: bool) -> int:
    """As few as nothing is spilled with."""
    if found.warps == 16:
        return 64
    if found.block // (found.lanes if found.tile > 1 else 32 * found.warps) == 64:
        return WIDE_REGISTERS
    if not heavy:
        return REGISTERS
    if found.warps < 8:
        return 0
    return HELD_REGISTERS if job.outputs or job.formula is Formula.CROSS_ENTROPY_DISTRIBUTION else REGISTERS


def pitch_of(job: Job, configuration: Configuration) -> int:
    """Entries from one row to the next in the batch's buffers: C, or C up to whole vectors."""
    if configuration.kernel not in ("resident", "pieces"):
        return job.layout.classes
    return ceil(job.layout.classes / configuration.vector) * configuration.vector


def afterwards(job: Job) -> Configuration | None:
    """The variant of the kernel that runs once all others of the batch have: the class weights' gradient."""
    if not job.weight_gradient:
        return None
    return Configuration("weights", compute_of(job).name, 1, CLASS_BLOCK, CLASS_WARPS)


def pieces_of(job: Job, configuration: Configuration) -> int:
    """Pieces of a long row."""
    return ceil(job.layout.classes / configuration.block)


def tiles(job: Job, configuration: Configuration) -> int:
    """Work items of `job`."""
    if configuration.kernel == "weights":
        return ceil(job.layout.classes / configuration.block)
    if configuration.kernel == "pieces":
        return job.layout.rows * pieces_of(job, configuration)
    if job.formula.elementwise:
        return job.layout.chunks * runs(job)
    return ceil(job.layout.rows / configuration.tile)


def chunk_elements(job: Job) -> int:
    """Elements of a whole chunk of the elementwise family; of the job where it has less than one."""
    return min(job.layout.chunk_items, job.layout.outer) * job.layout.classes


def runs(job: Job) -> int:
    """Runs of a chunk of the elementwise family."""
    return ceil(chunk_elements(job) / RUN)


def start(
    configuration: Configuration, words: torch.Tensor, out: torch.Tensor, first: int, count: int, work: int
) -> None:
    """Launches `count` work items from number `first` on; `work` is the word at which the work list begins."""
    kernel = KERNELS[configuration.kernel]
    kernel[(count,)](words, out, first, work, **configuration.constants, **configuration.options)

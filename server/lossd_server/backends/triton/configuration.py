"""Which kernels compute a job, and in which shape: fixed by (family, C, compute dtype), so that bits are too."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
import triton.language as tl

from lossd_server.backends.triton.elementwise import elementwise_runs
from lossd_server.backends.triton.kinds import kinds_rows
from lossd_server.backends.triton.softmax import softmax_rows
from lossd_server.backends.triton.weights import class_sums
from lossd_server.job import RUN, Formula, Job

# Largest C, then rows of a tile, classes of a block, warps: about 2,048 elements a step, rows of one block where C is
# small. Untuned.
SHAPES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "softmax": ((16, 64, 16, 4), (64, 32, 64, 4), (256, 8, 256, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
    "kinds": ((32, 32, 32, 4), (1024, 2, 1024, 4), (2**63, 1, 2048, 8)),
}
ELEMENTWISE_WARPS = 8
CLASS_BLOCK = 128  # classes of a work item of the class weights' gradient
CLASS_WARPS = 4

SOFTMAX = frozenset(
    {
        Formula.CROSS_ENTROPY_INDEX,
        Formula.CROSS_ENTROPY_DISTRIBUTION,
        Formula.ENTROPY_LOGITS,
        Formula.SOFTMAX,
        Formula.LOG_SOFTMAX,
    }
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A compiled variant of a kernel. tile: rows of a work item; block: classes of a step, or elements of a run."""

    kernel: str  # of KERNELS
    compute: str  # "float32" or "float64"
    tile: int
    block: int
    warps: int

    @property
    def constants(self) -> dict[str, Any]:
        """The kernel's constexpr arguments."""
        constants: dict[str, Any] = {"COMPUTE": tl.float64 if self.compute == "float64" else tl.float32}
        if self.kernel == "elementwise":
            return constants | {"RUN": self.block}
        if self.kernel == "weights":
            return constants | {"BLOCK": self.block}
        return constants | {"TILE": self.tile, "BLOCK": self.block}


KERNELS: dict[str, Any] = {
    "softmax": softmax_rows,
    "kinds": kinds_rows,
    "elementwise": elementwise_runs,
    "weights": class_sums,
}


def compute_of(job: Job) -> np.dtype[Any]:
    """What the job's kernel computes in: float64 under a softcap, whose float32 rounding would show in every loss."""
    return np.dtype(np.float64) if job.softcap > 0 else job.compute


def choose(job: Job) -> Configuration:
    """The variant for `job`."""
    compute = compute_of(job).name
    if job.formula.elementwise:
        return Configuration("elementwise", compute, 1, RUN, ELEMENTWISE_WARPS)
    kernel = "softmax" if job.formula in SOFTMAX else "kinds"
    _, tile, block, warps = next(shape for shape in SHAPES[kernel] if job.layout.classes <= shape[0])
    return Configuration(kernel, compute, tile, block, warps)


def afterwards(job: Job) -> Configuration | None:
    """The variant of the kernel that runs once all others of the batch have: the class weights' gradient."""
    if not job.weight_gradient:
        return None
    return Configuration("weights", compute_of(job).name, 1, CLASS_BLOCK, CLASS_WARPS)


def tiles(job: Job, configuration: Configuration) -> int:
    """Work items of `job`."""
    if configuration.kernel == "weights":
        return ceil(job.layout.classes / configuration.block)
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
    kernel[(count,)](words, out, first, work, **configuration.constants, num_warps=configuration.warps)

"""CPU backend: a batch is a table of jobs and a list of pieces, which threads take until none is left."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd_server.backends.numba.batch_table import (
    FAULTS,
    PIECE,
    RECORD,
    allocate,
    class_pieces_of,
    describe,
    finished_rows,
    picks,
    pieces_of,
)
from lossd_server.backends.numba.buffer_pool import Pool
from lossd_server.backends.numba.distributions.entropy import entropy_rows
from lossd_server.backends.numba.distributions.rows import distribution_rows
from lossd_server.backends.numba.elementwise.runs import map_elements
from lossd_server.backends.numba.gather.picked_class import pick_rows
from lossd_server.backends.numba.kernel_cost import kernel_ns
from lossd_server.backends.numba.prepared_job import PreparedBatch, PreparedJob
from lossd_server.backends.numba.softmax.class_weight_gradient import sum_classes
from lossd_server.backends.numba.softmax.row_per_block import softmax_rows
from lossd_server.backends.numba.softmax.row_state import SCRATCH_BYTES
from lossd_server.backends.numba.thread_team import ThreadTeam
from lossd_server.backends.numba.warmup import FORMULAS, compiling, rehearsal
from lossd_server.jobs.job import Computed, Formula, Job, Launch
from lossd_server.tensors.array import address_of

log = logging.getLogger(__name__)

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
ZEROS = {FLOAT32: np.float32(0), FLOAT64: np.float64(0)}
Kernel = Callable[..., None]
KERNELS: dict[Formula, Kernel] = {
    Formula.CROSS_ENTROPY_INDEX: softmax_rows,
    Formula.CROSS_ENTROPY_DISTRIBUTION: softmax_rows,
    Formula.ENTROPY_LOGITS: softmax_rows,
    Formula.SOFTMAX: softmax_rows,
    Formula.LOG_SOFTMAX: softmax_rows,
    Formula.ENTROPY_PROBABILITIES: entropy_rows,
    Formula.ENTROPY_COUNTS: entropy_rows,
    Formula.CROSS_ENTROPY_KINDS_INDEX: distribution_rows,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION: distribution_rows,
    Formula.KL_ROWS: distribution_rows,
}


def kernel_of(job: Job) -> tuple[Kernel, np.dtype[Any]]:
    """What computes a job, and in which type."""
    if picks(job):
        return pick_rows, FLOAT64
    return KERNELS.get(job.formula, map_elements), job.compute


# Work that one thread does about as soon as two, who have to be told of it and waited for: 0.1 ms.
SHARED_BYTES = 11 << 18


class KernelPass(NamedTuple):
    """One kernel's turn over a batch."""

    kernel: Kernel
    pieces: npt.NDArray[Any]  # PIECE
    counter: npt.NDArray[np.int64]  # of pieces taken
    zero: Any  # of the type it computes in


def kernel_pass(kernel: Kernel, pieces: list[tuple[int, ...]], compute: np.dtype[Any]) -> KernelPass:
    return KernelPass(kernel, np.array(pieces, np.int64).view(PIECE).ravel(), np.zeros(1, np.int64), ZEROS[compute])


def record_faults(pieces: npt.NDArray[Any], results: list[Computed]) -> None:
    """Each job's first fault, of those that its pieces found."""
    if pieces["fault"].max() < 0:
        return
    for job, _, _, fault, index in pieces[pieces["fault"] >= 0].tolist():
        computed = results[job]
        if computed.fault is None or index < computed.fault[1]:
            computed.fault = FAULTS[fault], index


class Scratch(threading.local):
    """Each thread's own working memory, and the pieces and the counter of a batch that is one piece."""

    def __init__(self) -> None:
        self.piece = np.empty(1, PIECE)
        self.words = self.piece.view(np.int64)
        self.counter = np.empty(1, np.int64)
        self.counter_address = address_of(self.counter)
        self.bytes = np.empty(SCRATCH_BYTES + 64, np.uint8)
        self.address = address_of(self.bytes) + -address_of(self.bytes) % 64


class NumbaBackend:
    """The `Backend` of a CPU. threads: how many compute, the caller's among them; 0 = all cores of this process."""

    name = "numba"
    inline_ns = 25_000.0  # a hand-over takes as long
    warm_up_steps = 2 * len(FORMULAS)

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.device = f"{processor()}, {self.threads} thread{'s' * (self.threads > 1)}"
        self._scratch = Scratch()
        self._memory = Pool()
        self._team = ThreadTeam(self.threads - 1, "lossd-kernel") if self.threads > 1 else None

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles (or loads) every kernel by running it once: where nothing is cached, float64 in another process."""
        other = compiling("float64") if self.threads > 1 else None
        for compute in ("float32", "float64"):
            if other is not None and compute == "float64":
                log.debug("warm-up: waiting for the float64 kernels")
                other.wait()
                if other.stdin is not None:
                    other.stdin.close()
            for job in rehearsal(compute):
                report(f"kernel {kernel_of(job)[0].__name__} {compute}")
                self.run([Launch(job, 1.0)])

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        """Computes a batch: one pass of the threads over it for each kernel that is present."""
        if len(launches) == 1 and launches[0].job.work_bytes < SHARED_BYTES and not launches[0].job.weight_gradient:
            return [self._run_small(launches[0])]
        results = [allocate(launch.job, self._memory.empty) for launch in launches]
        for launch, computed in zip(launches, results, strict=True):
            if launch.weight_gradient is not None and computed.weight_gradient is not None:
                computed.weight_gradient[:] = launch.weight_gradient  # kernels add to what is there
        finished = [finished_rows(launch.job) for launch in launches]
        table = np.frombuffer(b"".join(map(describe, launches, results, finished)), RECORD)
        groups: dict[tuple[Kernel, np.dtype[Any]], list[tuple[int, ...]]] = {}
        classes: list[tuple[int, ...]] = []
        work = 0
        for i, launch in enumerate(launches):
            groups.setdefault(kernel_of(launch.job), []).extend(pieces_of(i, launch.job))
            if launch.job.weight_gradient:
                classes.extend(class_pieces_of(i, launch.job))
            work += launch.job.work_bytes
        passes = [kernel_pass(kernel, listed, compute) for (kernel, compute), listed in groups.items() if listed]
        self._on_threads(lambda: self._run_passes(table, passes), work)
        if classes:  # the weight's gradient needs every row finished: a second turn of the threads
            second = [kernel_pass(sum_classes, classes, FLOAT64)]
            self._on_threads(lambda: self._run_passes(table, second), work)
        for each in passes:
            record_faults(each.pieces, results)
        return results

    def _run_small(self, launch: Launch) -> Computed:
        """A small job alone, as most calls are: on this thread, as one piece, with nothing made but its answers."""
        job = launch.job
        computed = allocate(job, self._memory.empty)
        scratch = self._scratch
        units = job.layout.chunks if job.formula.elementwise else job.layout.rows
        scratch.words[:] = 0, 0, units, -1, 0
        scratch.counter[0] = 0
        kernel, compute = kernel_of(job)
        table = np.frombuffer(describe(launch, computed, None), RECORD)
        kernel(table, scratch.piece, scratch.counter_address, scratch.address, ZEROS[compute])
        fault = scratch.words[3]
        if fault >= 0:
            computed.fault = FAULTS[fault], int(scratch.words[4])
        return computed

    def kernel_ns(self, job: Job) -> float:
        return kernel_ns(job)

    def prepare(self, launch: Launch, computed: Computed) -> PreparedJob | None:
        job = launch.job
        if job.weight_gradient or kernel_ns(job) > self.inline_ns:
            return None
        kernel, compute = kernel_of(job)
        units = job.layout.chunks if job.formula.elementwise else job.layout.rows
        return PreparedJob(describe(launch, computed, None), units, kernel, ZEROS[compute])

    def room(self, jobs: int) -> PreparedBatch:
        return PreparedBatch(jobs, self._scratch.address)

    def _run_passes(self, table: Any, passes: list[KernelPass]) -> None:
        scratch = self._scratch
        for each in passes:
            each.kernel(table, each.pieces, address_of(each.counter), scratch.address, each.zero)

    def _on_threads(self, work: Callable[[], None], size: int) -> None:
        """Runs `work` on this thread, and on the others too where that pays."""
        if self._team is None or size < SHARED_BYTES:
            work()
        else:
            self._team.run(work)

    def trim(self) -> None:
        self._memory.trim()

    def age(self) -> None:
        self._memory.age()

    def close(self) -> None:
        """Stops the threads."""
        if self._team is not None:
            self._team.close()


def processor() -> str:
    """The processor's name, for people."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "CPU"

"""Batches on the CPU: a table of jobs, a list of pieces, and threads that take pieces until none is left."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import (
    FAULTS,
    PIECE,
    RECORD,
    address_of,
    allocate,
    class_pieces_of,
    describe,
    finished_rows,
    picks,
    pieces_of,
)
from lossd_server.backends.numba.buffer_pool import Pool
from lossd_server.backends.numba.distributions import entropy
from lossd_server.backends.numba.distributions import rows as row_kinds
from lossd_server.backends.numba.elementwise import runs
from lossd_server.backends.numba.gather import picked_class
from lossd_server.backends.numba.layout.blocks import TILE
from lossd_server.backends.numba.prepared_job import PreparedJob
from lossd_server.backends.numba.softmax import class_weight_gradient, row_per_block
from lossd_server.backends.numba.softmax.row_state import SCRATCH_BYTES, STATES
from lossd_server.backends.numba.warmup import compiling, rehearsal
from lossd_server.jobs.job import Computed, Formula, Job, Launch

log = logging.getLogger(__name__)

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
ZEROS = {FLOAT32: np.float32(0), FLOAT64: np.float64(0)}
Kernel = Callable[..., None]
KERNELS: dict[Formula, Kernel] = {
    Formula.CROSS_ENTROPY_INDEX: row_per_block.softmax_rows,
    Formula.CROSS_ENTROPY_DISTRIBUTION: row_per_block.softmax_rows,
    Formula.ENTROPY_LOGITS: row_per_block.softmax_rows,
    Formula.SOFTMAX: row_per_block.softmax_rows,
    Formula.LOG_SOFTMAX: row_per_block.softmax_rows,
    Formula.ENTROPY_PROBABILITIES: entropy.sum_rows,
    Formula.ENTROPY_COUNTS: entropy.sum_rows,
    Formula.CROSS_ENTROPY_KINDS_INDEX: row_kinds.kinds_rows,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION: row_kinds.kinds_rows,
    Formula.KL_ROWS: row_kinds.kinds_rows,
}


def kernel_of(job: Job) -> tuple[Kernel, np.dtype[Any]]:
    """What computes a job, and in which type."""
    if picks(job):
        return picked_class.pick_rows, FLOAT64
    return KERNELS.get(job.formula, runs.map_elements), job.compute


# A kernel, its pieces, the counter of those taken, and the zero of the type it computes in.
Pass = tuple[Kernel, Any, Any, Any]
# Work that one thread does about as soon as two, who have to be told of it and waited for: 0.1 ms.
SHARED_BYTES = 11 << 18


def taking(kernel: Kernel, pieces: list[tuple[int, ...]], compute: np.dtype[Any]) -> Pass:
    return kernel, np.array(pieces, np.int64).view(PIECE).ravel(), np.zeros(1, np.int64), ZEROS[compute]


class Scratch(threading.local):
    """Each thread's own working memory, and the pieces and the counter of a batch that is one piece."""

    def __init__(self) -> None:
        self.piece = np.empty(1, PIECE)
        self.words = self.piece.view(np.int64)
        self.counter = np.empty(1, np.int64)
        self.counter_address = address_of(self.counter)
        self.bytes = np.empty(SCRATCH_BYTES + 64, np.uint8)
        self.address = address_of(self.bytes) + -address_of(self.bytes) % 64
        self.states = np.zeros((2 * TILE, STATES))


class NumbaBackend:
    """The `Backend` of a CPU. threads: how many compute, the caller's among them; 0 = all cores of this process."""

    name = "numba"
    inline_bytes = 1 << 17  # about 20 µs of work

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.device = f"{processor()}, {self.threads} thread{'s' * (self.threads > 1)}"
        self._scratch = Scratch()
        self._memory = Pool()
        self._pool = ThreadPoolExecutor(self.threads - 1, "lossd-kernel") if self.threads > 1 else None

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles (or loads) every kernel by running it once: where nothing is cached, float64 in another process."""
        other = compiling("float64") if self.threads > 1 else None
        for compute in ("float32", "float64"):
            if other is not None and compute == "float64":
                report("waiting for the float64 kernels")
                other.wait()
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
        passes = [taking(kernel, listed, compute) for (kernel, compute), listed in groups.items() if listed]
        self._share(lambda: self._take(table, passes), work)
        if classes:  # the weight's gradient needs every row finished: a second turn of the threads
            second = [taking(class_weight_gradient.sum_classes, classes, FLOAT64)]
            self._share(lambda: self._take(table, second), work)
        for _, pieces, _, _ in passes:
            if pieces["fault"].max() < 0:
                continue
            for job, _, _, fault, index in pieces[pieces["fault"] >= 0].tolist():
                computed = results[job]
                if computed.fault is None or index < computed.fault[1]:
                    computed.fault = FAULTS[fault], index
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
        kernel(table, scratch.piece, scratch.counter_address, scratch.address, scratch.states, ZEROS[compute])
        fault = scratch.words[3]
        if fault >= 0:
            computed.fault = FAULTS[fault], int(scratch.words[4])
        return computed

    def prepare(self, job: Job, computed: Computed) -> PreparedJob | None:
        if job.weight_gradient or job.work_bytes > self.inline_bytes:
            return None
        scratch = self._scratch
        kernel, compute = kernel_of(job)
        return PreparedJob(job, computed, kernel, scratch.address, scratch.states, ZEROS[compute])

    def _take(self, table: Any, passes: list[Pass]) -> None:
        scratch = self._scratch
        for kernel, pieces, counter, zero in passes:
            kernel(table, pieces, address_of(counter), scratch.address, scratch.states, zero)

    def _share(self, work: Callable[[], None], size: int) -> None:
        """Runs `work` on this thread, and on the others too where that pays."""
        if self._pool is None or size < SHARED_BYTES:
            work()
            return
        others = [self._pool.submit(work) for _ in range(self.threads - 1)]
        try:
            work()
        finally:
            wait(others)
        for other in others:
            other.result()

    def close(self) -> None:
        """Stops the threads."""
        if self._pool is not None:
            self._pool.shutdown()


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

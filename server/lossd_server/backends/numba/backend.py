"""Batches on the CPU: a table of jobs, a list of pieces, and threads that take pieces until none is left."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.array import Array
from lossd_server.backends.numba import elements, row_sums, rows
from lossd_server.backends.numba.blocks import TILE
from lossd_server.backends.numba.pool import Pool
from lossd_server.backends.numba.state import SCRATCH_BYTES, STATES
from lossd_server.backends.numba.table import (
    FAULTS,
    PIECE,
    RECORD,
    address_of,
    allocate,
    describe,
    pieces_of,
)
from lossd_server.job import Computed, Formula, Job, Launch, Layout

log = logging.getLogger(__name__)

FAMILIES: dict[Formula, Callable[..., None]] = {
    Formula.CROSS_ENTROPY_INDEX: rows.softmax_rows,
    Formula.CROSS_ENTROPY_DISTRIBUTION: rows.softmax_rows,
    Formula.ENTROPY_LOGITS: rows.softmax_rows,
    Formula.ENTROPY_PROBABILITIES: row_sums.sum_rows,
    Formula.ENTROPY_COUNTS: row_sums.sum_rows,
    Formula.BCE: elements.map_elements,
    Formula.BCE_WITH_LOGITS: elements.map_elements,
}
ZEROS = {np.dtype(np.float32): np.float32(0), np.dtype(np.float64): np.float64(0)}
# Work that one thread does sooner than others could be told of it: about 20 µs.
SHARED_BYTES = 1 << 18


class Scratch(threading.local):
    """Each thread's own working memory."""

    def __init__(self) -> None:
        self.bytes = np.empty(SCRATCH_BYTES + 64, np.uint8)
        self.address = address_of(self.bytes) + -address_of(self.bytes) % 64
        self.states = np.zeros((TILE, STATES))


class NumbaBackend:
    """The `Backend` of a CPU. threads: how many compute, the caller's among them; 0 = all cores of this process."""

    name = "numba"
    inline_bytes = 1 << 17  # about 20 µs of work

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.device = f"{processor()}, {self.threads} threads"
        self._scratch = Scratch()
        self._memory = Pool()
        self._pool = ThreadPoolExecutor(self.threads - 1, "lossd-kernel") if self.threads > 1 else None

    def warm_up(self, report: Callable[[str], None]) -> None:
        """Compiles (or loads) every kernel by running it once."""
        values = np.full(4, 0.5)
        for formula in (Formula.CROSS_ENTROPY_INDEX, Formula.ENTROPY_COUNTS, Formula.BCE):
            for compute, dtype in ((np.float32, pb.DATA_TYPE_FLOAT32), (np.float64, pb.DATA_TYPE_FLOAT64)):
                report(f"kernel {FAMILIES[formula].__name__} {np.dtype(compute)}")
                operand = Array(values.astype(compute), dtype, (2, 2))
                target = Array(np.zeros(2, np.int64), pb.DATA_TYPE_INT64, (2,)) if "INDEX" in formula.name else operand
                job = Job(
                    rpc="",
                    formula=formula,
                    layout=Layout(2, 2, 1),
                    compute=np.dtype(compute),
                    input=operand,
                    target=target,
                )
                self.run([Launch(job, 1.0)])

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        """Computes a batch: one pass of the threads over it for each kernel that is present."""
        results = [allocate(launch.job, self._memory.empty) for launch in launches]
        table = np.frombuffer(b"".join(map(describe, launches, results)), RECORD)
        groups: dict[tuple[Callable[..., None], np.dtype[Any]], list[tuple[int, ...]]] = {}
        work = 0
        for i, launch in enumerate(launches):
            kernel = FAMILIES[launch.job.formula], launch.job.compute
            groups.setdefault(kernel, []).extend(pieces_of(i, launch.job))
            work += launch.job.work_bytes
        passes = [
            (function, np.array(listed, np.int64).view(PIECE).ravel(), np.zeros(1, np.int64), ZEROS[compute])
            for (function, compute), listed in groups.items()
        ]
        self._share(lambda: self._take(table, passes), work)
        for _, pieces, _, _ in passes:
            if pieces["fault"].max() < 0:
                continue
            for job, _, _, fault, index in pieces[pieces["fault"] >= 0].tolist():
                computed = results[job]
                if computed.fault is None or index < computed.fault[1]:
                    computed.fault = FAULTS[fault], index
        return results

    def _take(self, table: Any, passes: list[tuple[Callable[..., None], Any, Any, Any]]) -> None:
        scratch = self._scratch
        for function, pieces, counter, zero in passes:
            function(table, pieces, address_of(counter), scratch.address, scratch.states, zero)

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

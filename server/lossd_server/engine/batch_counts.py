"""Batch counts: what metrics know of a batch, counted by compiled code, which adds to the words themselves.

In Python it would be 2 µs of a small call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from lossd_server.backends.numba.simd.memory import load_one, store_one, untyped_pointer
from lossd_server.engine.batcher import Batch
from lossd_server.jobs.jit import device_function, njit
from lossd_server.metrics import layout
from lossd_server.metrics.methods import LOSS_PLACES, UNKNOWN_LOSS
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.tensors.array import address_of

# Addresses of histograms' words, of their buckets' upper bounds, and how many bounds there are. computing, planned: of
# the first loss; loss_bytes: from one loss's to the next one's.
COUNTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "requests",
            "requests_bounds",
            "requests_buckets",
            "rows",
            "rows_bounds",
            "rows_buckets",
            "waits",
            "computing",
            "planned",
            "times_bounds",
            "times_buckets",
            "loss_bytes",
        )
    ]
)


@device_function
def observe_one(words: int, bounds: int, buckets: int, value: int, times: int) -> None:
    """As `worker_metrics.observe`."""
    bucket = 0
    while bucket < buckets and value > load_one(bounds + 8 * bucket, np.int64(0)):
        bucket += 1
    at = words + 8 * bucket
    store_one(at, load_one(at, np.int64(0)) + times)
    at = words + 8 * (buckets + 1)
    store_one(at, load_one(at, np.int64(0)) + value * times)


@device_function
def counts_at(at: int) -> Any:
    return carray(untyped_pointer(at), (1,), COUNTS)[0]


@device_function
def observe_batch(counts: Any, requests: int, rows: int) -> None:
    observe_one(counts.requests, counts.requests_bounds, counts.requests_buckets, requests, 1)
    observe_one(counts.rows, counts.rows_bounds, counts.rows_buckets, rows, 1)


@device_function
def observe_planned(counts: Any, loss: int, took_ns: int) -> None:
    """One evaluation by a plan."""
    observe_one(counts.planned + loss * counts.loss_bytes, counts.times_bounds, counts.times_buckets, took_ns, 1)


@njit
def count_jobs(row: Any, requests: int, rows: int, loss: int, queue_ns: int, took_ns: int, times: int) -> None:
    """A batch, where it has any `requests`; and `times` of them, of one loss, that waited and were computed so long.

    row: of a `BatchCounts`. An array costs 13 ns more than its address, and is there for as long as this runs.
    """
    counts = counts_at(row.ctypes.data)
    if requests:
        observe_batch(counts, requests, rows)
    if times:
        observe_one(counts.waits, counts.times_bounds, counts.times_buckets, queue_ns, times)
        of_loss = counts.computing + loss * counts.loss_bytes
        observe_one(of_loss, counts.times_bounds, counts.times_buckets, took_ns, times)


class _Owner:
    """Of an array, which it becomes to numpy, and of what else lives as long as that."""

    def __init__(self, array: npt.NDArray[Any], others: object) -> None:
        self.__array_interface__ = array.__array_interface__
        self._keep = array, others


class BatchCounts:
    """Into a worker's metrics. row: of COUNTS, as words, for compiled code: whoever has it may use its address.

    It keeps all memory that it has addresses of.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        words = address_of(np.frombuffer(metrics.words, np.int64))
        bounds = {
            name: np.array(of, np.int64)
            for name, of in (("requests", layout.REQUESTS), ("rows", layout.ROWS), ("times", layout.TIMES_NS))
        }
        row = np.zeros(1, COUNTS)
        for name, position in (
            ("requests", layout.BATCH_REQUESTS),
            ("rows", layout.BATCH_ROWS),
            ("waits", layout.QUEUE_WAIT),
            ("computing", layout.BY_LOSS + layout.COMPUTE),
            ("planned", layout.BY_LOSS + layout.PLANNED),
        ):
            row[name] = words + 8 * position
        for name, of in bounds.items():
            row[f"{name}_bounds"], row[f"{name}_buckets"] = address_of(of), len(of)
        row["loss_bytes"] = 8 * layout.LOSS_WORDS
        self.row = np.asarray(_Owner(row.view(np.int64), (metrics.words, bounds)))

    def count(self, batch: Batch[Any]) -> None:
        """Its size, and of each of its jobs how long that waited and how long it took."""
        requests, rows, took_ns, jobs = batch.requests, batch.rows, batch.took_ns, batch.jobs
        if not took_ns:  # nobody waited for it any more
            count_jobs(self.row, requests, rows, 0, 0, 0, 0)
        elif len(jobs) == 1:  # as most are that are small: a loop of one would cost as much again
            waiting, loss = batch.waiting[0], LOSS_PLACES.get(jobs[0].rpc, UNKNOWN_LOSS)
            queue_ns = batch.start_ns - waiting.queued_ns
            count_jobs(self.row, requests, rows, loss, queue_ns, took_ns, waiting.requests)
        else:
            for waiting, job in zip(batch.waiting, jobs, strict=True):
                loss, queue_ns = LOSS_PLACES.get(job.rpc, UNKNOWN_LOSS), batch.start_ns - waiting.queued_ns
                count_jobs(self.row, requests, rows, loss, queue_ns, took_ns, waiting.requests)
                requests = 0  # it is one batch


def warm_up() -> None:
    """Compiles, or loads, the function above."""
    count_jobs(BatchCounts(WorkerMetrics()).row, 1, 1, 0, 1, 1, 1)

"""Prepared job: a small job described once, to be computed again and again among others of its kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lossd_server.backends.numba.batch_table import PIECE, RECORD
from lossd_server.tensors.array import address_of


class PreparedJob(NamedTuple):
    """record: of the batch table; its addresses are to be replaced. units: what a piece of all of it counts to.

    kernel: computes it; zero: of the type in which it does.
    """

    record: bytes
    units: int
    kernel: Callable[..., None]
    zero: Any


class PreparedBatch:
    """Room for the records and pieces of `jobs` prepared jobs of one kernel: whoever fills it knows their layout.

    scratch: the working memory of the thread that will call `run`.
    """

    def __init__(self, jobs: int, scratch: int) -> None:
        records = bytearray(jobs * RECORD.itemsize)
        self.records = address_of(np.frombuffer(records, np.uint8))
        pieces = np.zeros(jobs, PIECE)
        self.pieces = address_of(pieces)
        self._first = [pieces[:count] for count in range(jobs + 1)]
        # As everywhere: numba compiles for each kind of array.
        self._table = np.frombuffer(memoryview(records).toreadonly(), RECORD)
        self._counter = np.zeros(1, np.int64)
        self._behind = address_of(self._counter), scratch

    def run(self, kernel: Callable[..., None], zero: Any, count: int) -> None:
        """Computes the first `count` pieces; each has its fault then, or −1."""
        self._counter[0] = 0
        kernel(self._table, self._first[count], *self._behind, zero)

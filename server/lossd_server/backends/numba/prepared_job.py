"""Prepared job: a small job made ready once, to run again and again on the memory it was made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd_server.backends.numba.batch_table import PIECE, RECORD, describe
from lossd_server.jobs.job import Computed, Job, Launch
from lossd_server.tensors.array import address_of

SCALE = RECORD.fields["scale"][1] if RECORD.fields else 0
FAULT = PIECE.names.index("fault") if PIECE.names else 0


class PreparedJob:
    """One kernel's arguments. scratch: the working memory of the thread that will call `run`."""

    def __init__(self, job: Job, computed: Computed, kernel: Callable[..., None], scratch: int, zero: Any) -> None:
        self._kept = job, computed  # the record has their addresses
        record = bytearray(describe(Launch(job, 0.0), computed, None))
        units = job.layout.chunks if job.formula.elementwise else job.layout.rows
        table = np.frombuffer(memoryview(record).toreadonly(), RECORD)  # as everywhere: numba compiles for each kind
        piece = np.array([(0, 0, units, -1, 0)], PIECE)
        self.scale_address = address_of(table) + SCALE
        self._words = piece.view(np.int64)
        self._counter = np.zeros(1, np.int64)
        self._kernel = kernel
        self._arguments = table, piece, address_of(self._counter), scratch, zero

    def run(self) -> bool:
        self._counter[0] = 0
        self._kernel(*self._arguments)
        if self._words[FAULT] < 0:
            return True
        self._words[FAULT] = -1
        return False

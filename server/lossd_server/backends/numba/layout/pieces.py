"""Work distribution: threads take the pieces of a batch from a counter that they share."""

from __future__ import annotations

from typing import Any

from lossd_server.backends.numba.simd.memory import next_piece
from lossd_server.jobs.jit import inlined


@inlined
def for_each_piece(compute: Any, jobs: Any, pieces: Any, counter: int, scratch: int, zero: Any) -> None:
    """Takes pieces until none is left; every kernel is this loop.

    compute(job, begin, end, scratch, zero) computes units begin … end − 1 of a job and gives (fault, index),
    fault −1 where there is none. scratch: the thread's own memory. `zero` tells the compute type.
    """
    while True:
        i = next_piece(counter)
        if i >= pieces.shape[0]:
            return
        piece = pieces[i]
        fault, index = compute(jobs[piece.job], piece.begin, piece.end, scratch, zero)
        if fault >= 0:
            piece.fault = fault
            piece.fault_index = index

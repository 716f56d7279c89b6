"""Warm-up: what is run before the first request, so that every kernel is compiled by then.

A process of numba compiles on one core, so the first start of a server has another one (`__main__`) compile half of
them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.jit import CACHE, SHIPPED
from lossd_server.jobs.job import Formula, Job, Layout
from lossd_server.tensors.array import Array

DTYPES = {"float32": pb.DATA_TYPE_FLOAT32, "float64": pb.DATA_TYPE_FLOAT64}
# One formula of every kernel.
FORMULAS = (
    Formula.CROSS_ENTROPY_DISTRIBUTION,
    Formula.ENTROPY_COUNTS,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION,
    Formula.BCE,
    Formula.NLL,
)


def rehearsal(compute: str) -> Iterator[Job]:
    """A job for every kernel, computed in "float32" or "float64"."""
    operand = Array(np.full(4, 0.5, compute), DTYPES[compute], (2, 2))
    indices = Array(np.zeros(2, np.int64), pb.DATA_TYPE_INT64, (2,))
    for formula in FORMULAS:
        yield Job(
            rpc="",
            formula=formula,
            layout=Layout(2, 2, 1),
            compute=np.dtype(compute),
            input=operand,
            target=indices if formula is Formula.NLL else operand,
            weight_gradient=formula is Formula.CROSS_ENTROPY_DISTRIBUTION,
        )


def compiling(compute: str) -> subprocess.Popen[bytes] | None:
    """A process that compiles one type's kernels into the cache; None where there is no cache, or something in it."""
    there = any(next(folder.glob("*softmax_rows*"), None) for folder in (SHIPPED, CACHE) if folder is not None)
    if CACHE is None or not sys.executable or there:
        return None
    command = [sys.executable, "-m", "lossd_server.backends.numba", compute]
    try:
        # Through its standard input it learns of our end, however that comes.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:  # then they are compiled here, one after the other
        return None

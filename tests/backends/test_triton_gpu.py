"""On a CUDA device, at full size: `pytest --gpu -m gpu`. Everything else about the kernels holds on any device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lossd_server.backends import Backend
from lossd_server.backends.triton import TritonBackend
from lossd_server.backends.triton.device import MEMORY_SHARE
from lossd_server.jobs.job import Formula, Launch
from tests.backends.triton_jobs import array, bits, indices, rows_job, some

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1" or not torch.cuda.is_available(), reason="needs --gpu and a GPU"
    ),
]
ROOT = Path(__file__).parents[2]


def test_every_size_is_right() -> None:
    """The benchmark's checks: every C and dtype, more than 2³² elements, all of it written."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", "--part", "correctness"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "more than 2**32 elements" in done.stdout


def test_out_of_memory_costs_the_request_that_asked(triton: Backend) -> None:
    """A row that the device has no room for is a MemoryError; the next request is computed."""
    small = Launch(some(Formula.CROSS_ENTROPY_INDEX, (4, 100, 1)), 1.0)
    expected = bits(triton.run([small])[0])
    row = array(np.zeros((1, 1 << 29, 1), np.float32))
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(MemoryError):
            triton.run([Launch(rows_job(Formula.CROSS_ENTROPY_INDEX, row, target=indices(np.zeros((1, 1)))), 1.0)])
    finally:
        torch.cuda.set_per_process_memory_fraction(MEMORY_SHARE)

    assert bits(triton.run([small])[0]) == expected


def test_registered_memory_is_copied_from_directly(triton: Backend) -> None:
    """Of many batches on several streams, from a region and packed: the same bits, there and after it is let go."""
    assert isinstance(triton, TritonBackend)
    job = some(Formula.CROSS_ENTROPY_INDEX, (40_000, 1001, 1), outputs=frozenset())
    packed = bits(triton.run([Launch(job, 1.0)])[0])
    address = job.input.values.ctypes.data
    triton.pin(address, job.input.values.nbytes)
    direct = bits(triton.run([Launch(job, 1.0)])[0])
    triton.unpin(address)

    assert direct == packed
    assert bits(triton.run([Launch(job, 1.0)])[0]) == packed

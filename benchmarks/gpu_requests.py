"""Requests from host memory to host memory, for gpu.py: the backend's whole way, beside bare copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from gpu_cases import index_job
from lossd_server.backends.triton.backend import TritonBackend
from lossd_server.jobs.job import Job, Launch
from lossd_server.tensors.array import Array

CLASSES = 1024


def request_cases(count: int, size: int, device: str) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Title, bytes over the bus, work: copies alone, then `count` requests of `size` bytes of float32 logits."""
    backend = TritonBackend()
    rows = max(1, size // 4 // CLASSES)
    total = count * rows * CLASSES
    host = torch.randn(total)
    if device == "cuda":
        host = host.pin_memory()
    there = torch.empty(total, device=device)
    back = torch.empty_like(host)

    def copies(both: bool) -> None:
        there.copy_(host, non_blocking=True)
        if both:
            back.copy_(there, non_blocking=True)
        if device == "cuda":
            torch.cuda.synchronize()

    for gradient in (False, True):
        moved = total * 4 * (1 + gradient)
        yield f"bare copy{' there and back' * gradient}", moved, partial(copies, gradient)
        jobs = [index_job(rows, CLASSES, "float32", gradient) for _ in range(count)]
        launches = [Launch(job, 1.0) for job in jobs]
        for job in jobs:
            job.input.values[:] = 0.5
        title = f"{count} of ({rows}, {CLASSES}){' + gradient' * gradient}"
        yield f"{title}, packed", moved, partial(backend.run, launches)
        region = np.full(total, 0.5, np.float32)
        backend.pin(region.ctypes.data, region.nbytes)
        placed = [Launch(_within(job, region, n), 1.0) for n, job in enumerate(jobs)]
        yield f"{title}, from a pinned region", moved, partial(backend.run, placed)
        backend.unpin(region.ctypes.data)
    backend.close()


def _within(job: Job, region: np.ndarray[Any, Any], number: int) -> Job:
    """The job with its logits in a region."""
    size = job.input.values.size
    return replace(job, input=Array(region[number * size : (number + 1) * size], job.input.dtype, job.input.shape))

"""What one small request costs as its batch grows: lossd's CPU backend beside torch, in one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alternating import medians
from kernel_cases import Case, rows_of
from lossd_server.backends import create
from lossd_server.engine.evaluate import evaluate
from lossd_server.jobs.job import Formula
from machine import threads

SIZES = (1, 4, 16, 64, 256, 1024)


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Seconds of a batch of equal (8, 16) requests, loss and gradient; torch: one call after another."""
    torch.set_num_threads(threads())
    backend = create("cpu", threads())
    backend.warm_up(lambda line: None)
    figures = []
    for size in SIZES[:4] if quick else SIZES:
        print(f"  {size} requests", file=sys.stderr, flush=True)
        pair = rows_of(torch.Generator().manual_seed(size), 8, 16)
        case = Case(f"{size}", Formula.CROSS_ENTROPY_INDEX, [pair] * size, (None, None))
        case.check(evaluate(backend, case.jobs(gradient=True)))
        for gradient in (False, True):
            jobs = case.jobs(gradient)
            program = (case.torch_gradient if gradient else case.torch_loss)(case.loss)
            peers: dict[str, Callable[[], object]] = {"lossd": partial(evaluate, backend, jobs), "torch": program}
            figures.append({"requests": size, "gradient": gradient, "seconds": medians(peers, count)})
    backend.close()
    return {"figures": figures}

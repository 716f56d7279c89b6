"""What computing and converting cost by formula, dtype and options: prints the tables by which jobs are weighed.

On one thread, the fastest of a few rounds. The tables are `KERNELS` of `lossd_server/backends/numba/kernel_cost.py` and
`WIDENED` of `lossd_server/jobs/conversion_cost.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs.job import Formula, Job, Kind, Launch, Layout, Reducing, Reduction
from lossd_server.jobs.reduction import BY_CLASS
from lossd_server.losses.operands import dtype_name
from lossd_server.losses.shapes import broadcast
from lossd_server.tensors.array import STORAGE, Array
from lossd_server.tensors.dtypes import FLOAT32, FLOAT64, widen

ROUNDS = 5
RNG = np.random.default_rng(0)
LONG, STRIDED = (256, 1000, 1), ((64, 1000, 4), (400, 10, 64))
SHORT = ((100_000, 1, 1), (60_000, 2, 1), (16_000, 8, 1))
DTYPES: dict[np.dtype[Any], int] = {FLOAT32: pb.DATA_TYPE_FLOAT32, FLOAT64: pb.DATA_TYPE_FLOAT64}
UNREDUCED = Reducing(reduction=Reduction.NONE)
TARGETED = {
    Formula.CROSS_ENTROPY_DISTRIBUTION, Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, Formula.KL_ROWS, Formula.KL,
    Formula.BCE, Formula.BCE_WITH_LOGITS,
}  # fmt: skip
# The slowest kinds of those formulas that take several.
INPUT_KINDS = {
    Formula.CROSS_ENTROPY_KINDS_INDEX: Kind.COUNTS,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION: Kind.COUNTS,
    Formula.KL_ROWS: Kind.LOGITS,
    Formula.KL: Kind.PROBABILITIES,
}


def fastest(call: Callable[[], object]) -> float:
    """Nanoseconds."""
    found = []
    for _ in range(ROUNDS):
        start = perf_counter_ns()
        call()
        found.append(perf_counter_ns() - start)
    return float(min(found))


def numbers(shape: tuple[int, ...], compute: np.dtype[Any]) -> Array:
    return Array(RNG.uniform(0.01, 0.99, int(np.prod(shape))).astype(compute), DTYPES[compute], shape)


def job_of(formula: Formula, compute: np.dtype[Any], shape: tuple[int, int, int], mode: str) -> Job:
    """mode: "loss", "gradients" (all, and losses unreduced), or "options" (those, and all that makes it slower)."""
    layout = Layout(*shape)
    if formula.elementwise:
        shape = (shape[0], shape[2], shape[1])  # the same, seen as dimensions of the tensor
    target = numbers(shape, compute) if formula in TARGETED else None
    if formula in BY_CLASS:
        target = Array(RNG.integers(0, layout.classes, layout.rows), pb.DATA_TYPE_INT64, (layout.rows,))
    kind = INPUT_KINDS.get(formula, Kind.LOGITS)
    job = Job(
        rpc="", formula=formula, layout=layout, compute=compute, input=numbers(shape, compute), target=target,
        input_kind=kind, loss_shape=shape if formula.elementwise else (layout.rows,),
    )  # fmt: skip
    if mode == "loss":
        return job
    distribution = formula in TARGETED
    job = replace(job, input_gradient=True, target_gradient=distribution, reducing=UNREDUCED)
    if mode == "gradients":
        return job
    if formula.elementwise:
        down = broadcast(numbers((shape[0], 1, 1), compute), shape, "weight")
        across = broadcast(numbers((shape[2],), compute), shape, "weight")
        return replace(job, weight=down, pos_weight=across, upstream=across)
    softmax = formula in (Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_DISTRIBUTION)
    per_row = RNG.random(layout.rows)
    crossed = softmax or formula in (Formula.CROSS_ENTROPY_KINDS_INDEX, Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION)
    if crossed:
        job = replace(job, label_smoothing=0.1, class_weight=np.ones(layout.classes, compute))
        job = replace(job, weight_gradient=distribution, weight_dtype=DTYPES[compute])
    if softmax:
        job = replace(job, softcap=3.0, z_loss=0.1, outputs=frozenset({"lse", "entropy", "argmax"}))
    return (
        replace(job, row_upstream=per_row)
        if formula is Formula.NLL
        else replace(job, row_weight=None if formula is Formula.KL_ROWS else per_row, row_upstream=per_row)
    )


def of_kernel(backend: NumbaBackend, formula: Formula, compute: np.dtype[Any], mode: str) -> tuple[float, float, float]:
    """(ns an element, ns an element where rows are strided, ns a row).

    Of the elementwise formulas a row is the last dimension, along which weights are read.
    """

    def took(shape: tuple[int, int, int]) -> float:
        launch = Launch(job_of(formula, compute, shape, mode), 1.0)
        return fastest(lambda: backend.run([launch]))

    size = np.prod(LONG)
    each = took(LONG) / size
    row = max(0.0, *((took(shape) - each * np.prod(shape)) / shape[0] for shape in SHORT))
    if formula.elementwise:
        return each, each, row
    strided = max(each, *((took((o, c, i)) - row * o * i) / (o * c * i) for o, c, i in STRIDED))
    return each, strided, row


def main() -> None:
    backend = NumbaBackend(1)
    backend.warm_up(lambda line: None)
    for formula in Formula:
        for compute in DTYPES:
            found = [of_kernel(backend, formula, compute, mode) for mode in ("loss", "gradients", "options")]
            shown = ", ".join(f"({each:.2f}, {strided:.2f}, {row:.0f})" for each, strided, row in found)
            print(f"    (Formula.{formula.name}, {compute.name.upper()}): ({shown}),", flush=True)
    count = 1 << 18
    for dtype, stored in STORAGE.items():
        values = np.ones(count, stored)
        cost = max(fastest(partial(widen, values, dtype, to)) / count for to in DTYPES)
        print(f"    {dtype_name(dtype)}: {cost:.2f},")
    backend.close()


if __name__ == "__main__":
    main()

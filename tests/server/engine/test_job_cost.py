"""The cost of jobs: known for every loss, the more the more there is to do; and what is cut by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossd_server.backends.numba import NumbaBackend
from lossd_server.backends.numba.kernel_cost import KERNELS, kernel_ns
from lossd_server.engine.batcher import Batcher, Waiting
from lossd_server.engine.job_cost import job_ns
from lossd_server.jobs.conversion_cost import COPIES_BYTES
from lossd_server.jobs.job import Answer, Formula, Job, Reducing, Reduction
from lossd_server.jobs.slicing import granularity, items, slice_job
from tests.server.engine.every_loss import jobs

NEVER = float("inf")
BACKEND = NumbaBackend(1)
ROWS, CLASSES = 1024, 1000
SOME = dict(jobs(ROWS, CLASSES))


def test_every_formula_is_weighed() -> None:
    """Whatever can be asked for has its cost, in both dtypes."""
    assert set(KERNELS) == {(formula, np.dtype(kind)) for formula in Formula for kind in (np.float32, np.float64)}
    assert all(min(cost[0] for cost in costs) > 0 for costs in KERNELS.values())


@pytest.mark.parametrize("name", SOME)
def test_more_costs_more(name: str) -> None:
    """Twice as many items, gradients, and unreduced losses."""
    job = SOME[name]
    cost = job_ns(BACKEND, job)

    assert job_ns(BACKEND, slice_job(job, 0, ROWS // 2)) < cost
    assert job_ns(BACKEND, replace(job, input_gradient=True)) >= cost
    unreduced = Reducing(reduction=Reduction.NONE)
    assert job_ns(BACKEND, replace(job, reducing=unreduced)) >= cost
    assert kernel_ns(job) < cost


def test_conversion_is_weighed() -> None:
    """What kernels do not take costs its conversion too; and the copies count among the bytes."""
    bools, floats = SOME["bce bool float32"], SOME["bce float32 float32"]

    assert bools.raw
    assert job_ns(BACKEND, bools) > job_ns(BACKEND, floats)
    assert bools.converted_bytes == 4 * ROWS * CLASSES
    assert bools.work_bytes > floats.work_bytes / 2


@pytest.mark.parametrize("name", SOME)
def test_a_long_job_is_cut_by_its_time(name: str) -> None:
    """No part takes longer than a batch may, whatever its loss."""
    job, most = SOME[name], job_ns(BACKEND, SOME[name]) / 7
    parts = cut(job, most)

    assert len(parts) >= 7
    assert sum(items(part) for part in parts) == ROWS
    # What parts have in common, and the granularity of elementwise sums, are not shared out.
    assert all(kernel_ns(part) <= most or items(part) == granularity(job) for part in parts)


@pytest.mark.parametrize("name", ["entropy 1 float32", "bce bool float32", "cross_entropy int64 float32"])
def test_what_is_one_item_is_not_cut(name: str) -> None:
    """One row, or one index of dimension 0: its sum has one order, and its softmax one maximum."""
    job = slice_job(SOME[name], 0, 1)

    assert items(job) == 1
    assert len(cut(job, job_ns(BACKEND, job) / 7)) == 1


def test_a_batch_has_its_time() -> None:
    """Jobs are taken together up to the time of a batch; those after it stand in line."""
    job = SOME["bce bool float32"]
    batcher: Batcher[int] = batched(2.5 * job_ns(BACKEND, job))
    for number in range(5):
        batcher.put(Waiting(job, NEVER, 0, number))
    taken = []
    while len(batcher):
        batch, _ = batcher.take(0.0)
        assert batch is not None
        taken.append([one.reply for one in batch.waiting])

    assert taken == [[0, 1], [2, 3], [4]]


def batched(max_ns: float) -> Batcher[int]:
    return Batcher(1 << 40, 1 << 40, 0, cost=lambda job: job_ns(BACKEND, job), max_ns=max_ns)


def cut(job: Job, max_ns: float) -> list[Job]:
    """Its parts."""
    batcher = batched(max_ns)
    waiting = Waiting(job, NEVER, 0, 0)
    batcher.put(waiting)
    chunks = waiting.cut
    if chunks is None:
        return [job]
    found = []
    while chunks.left:
        part = chunks.part()
        found.append(part)
        chunks.add(Answer(part, np.empty(()), None, None, None))
    return found


def test_copies_of_a_batch_are_bounded() -> None:
    """Jobs that have to be converted are taken together, and cut, so that their copies have a bound."""
    job = SOME["bce bool float32"]
    fit = COPIES_BYTES // job.converted_bytes
    batcher = batched(NEVER)
    for number in range(fit + 1):
        batcher.put(Waiting(job, NEVER, 0, number))
    batch, _ = batcher.take(0.0)

    assert batch is not None
    assert [one.reply for one in batch.waiting] == list(range(fit))
    large = replace(job, converted_bytes=5 * COPIES_BYTES)
    assert len(cut(large, NEVER)) >= 5

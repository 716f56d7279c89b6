"""Answers are written whole: whatever the memory held that they are written to, no byte of it is in them.

Each is computed twice, in memory of two patterns that have no byte in common: a byte that differs was not written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lossd.request import build as requests
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.backends.numba.buffer_pool import POOLED_BYTES, Pool
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.chunked_job import ChunkedJob
from lossd_server.engine.evaluate import evaluate
from lossd_server.engine.worker import compute_parts
from lossd_server.fast_path.burst import Burst, address_of_bytes
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.slicing import granularity, items
from lossd_server.wire import codec
from tests.conformance.cases import Case, case, every_option, sizes
from tests.conformance.losses import LOSSES
from tests.losses.checked import check
from tests.server.fast_path.test_plan import planned, unplanned

PATTERNS = (0xA5, 0x5A)
PRIMARY = [loss for loss, of in LOSSES.items() if of.primary]
# More than the pool's least: 2^18 elements and some, in rows of one and of several blocks.
LARGE = ((257, 1031), (31, 9001))
# Targets of counts become probabilities first: such requests have no plan.
UNPLANNED = frozenset(
    loss
    for loss in LOSSES
    if loss.startswith("kl_divergence of counts") or (loss.startswith("cross_entropy") and loss.endswith(" counts"))
)


@contextmanager
def poisoned(pattern: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every array that Python makes without writing it holds the pattern, that of the pool and of Triton's too."""

    def holding(make: Callable[..., Any]) -> Callable[..., Any]:
        def filled(*arguments: Any, **options: Any) -> Any:
            found = make(*arguments, **options)
            raw: Any = found.view(torch.uint8) if isinstance(found, torch.Tensor) else memoryview(found).cast("B")
            if len(raw):
                raw[:] = pattern if isinstance(found, torch.Tensor) else bytes([pattern]) * len(raw)
            return found

        return filled

    def from_pool(pool: Pool, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        found = real(pool, count, dtype)
        found.view(np.uint8)[:] = pattern
        return found

    real = Pool.empty
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "empty", from_pool)
        patch.setattr(np, "empty", holding(np.empty))
        patch.setattr(torch, "empty", holding(torch.empty))
        yield


def job_of(one: Case) -> Job:
    call = requests.build(one.asked.method, *one.asked.tensors, **one.asked.options)
    return check(call.rpc, call.request)


def bodies(backend: Backend, jobs: list[Job]) -> list[bytes]:
    answers = evaluate(backend, jobs)
    return [codec.encode(one, 0, 0, 1, 1) if isinstance(one, Answer) else repr(one).encode() for one in answers]


def in_chunks(backend: Backend, job: Job) -> bytes:
    """The answer of a job that is computed in parts of a few items."""
    cut = ChunkedJob(job, None, granularity(job) * max(1, items(job) // granularity(job) // 3))
    waiting: Waiting[Any] = Waiting(job, float("inf"), time.monotonic_ns(), None)
    waiting.form = lambda answer, *_: codec.encode(answer, 0, 0, 1, 1)
    outcome = compute_parts(backend, waiting, cut, lambda: False)
    return outcome if isinstance(outcome, bytes) else repr(outcome).encode()


def unwritten(
    jobs: list[tuple[str, Job]], monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[bytes]]
) -> list[str]:
    """The names of those whose answers have bytes of the memory in them."""
    found = []
    for pattern in PATTERNS:
        with poisoned(pattern, monkeypatch):
            found.append(answer())
    return [name for (name, _), one, other in zip(jobs, *found, strict=True) if one != other]


@pytest.mark.parametrize("loss", LOSSES)
def test_small_answers_on_the_cpu(numba: Backend, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option, with reductions, dtypes, layouts and sizes going round: alone, and in one batch."""
    jobs = [(one.name, job_of(one)) for one in (*every_option(loss), *sizes(loss))]

    assert unwritten(jobs, monkeypatch, lambda: [bodies(numba, [job])[0] for _, job in jobs]) == []
    assert unwritten(jobs, monkeypatch, lambda: bodies(numba, [job for _, job in jobs])) == []


@pytest.mark.parametrize("loss", PRIMARY)
def test_large_answers_on_the_cpu(numba: Backend, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients and losses in the pool's memory, whole and computed in chunks."""
    last = LOSSES[loss].reductions[-1]
    jobs = [(one.name, job_of(one)) for one in (case(loss, "plain", last, "float32", shape) for shape in LARGE)]
    assert all(job.layout.elements * 4 > POOLED_BYTES for _, job in jobs)

    assert unwritten(jobs, monkeypatch, lambda: bodies(numba, [job for _, job in jobs])) == []
    assert unwritten(jobs, monkeypatch, lambda: [in_chunks(numba, job) for _, job in jobs]) == []


@pytest.mark.parametrize("loss", LOSSES)
def test_answers_of_triton(triton: Backend, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers of words that hold many jobs, with rows at a pitch: some options of each loss, in one batch."""
    jobs = [(one.name, job_of(one)) for one in list(every_option(loss))[::5]]

    assert unwritten(jobs, monkeypatch, lambda: bodies(triton, [job for _, job in jobs])) == []


@pytest.mark.parametrize("loss", LOSSES)
def test_planned_answers(numba: Backend, loss: str) -> None:
    """Those of small requests like one before are written into memory that holds the answers of others before them."""
    burst = Burst(numba)
    wrong, count = [], 0
    for one in (*every_option(loss), *sizes(loss)):
        call = requests.build(one.asked.method, *one.asked.tensors, **one.asked.options)
        plan = planned(numba, call.rpc, call.request)
        if plan is None:
            continue
        body = call.request.SerializeToString()
        expected = unplanned(numba, call.rpc, body)
        for pattern in PATTERNS:
            burst._answers[:] = bytes([pattern]) * len(burst._answers)
            burst._work.view(np.uint8)[:] = pattern
            (answer,) = burst.answer([(plan, address_of_bytes(body))])
            if answer is None:  # its values are not plain
                continue
            count += 1
            timing = getattr(pb, f"{call.rpc}Response").FromString(answer[len(expected) :])
            if answer[: len(expected)] != expected or [field.name for field, _ in timing.ListFields()] != ["timing"]:
                wrong.append(one.name)

    assert wrong == []
    assert (count == 0) == (loss in UNPLANNED)

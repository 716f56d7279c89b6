"""The pipeline: batches that overlap, large jobs in slices, operands copied from where they lie, lost devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from lossd_server.backends import DeviceLost
from lossd_server.backends.triton import pipeline
from lossd_server.backends.triton.device import Interpreter, device_error
from lossd_server.backends.triton.pinned_memory import PinnedRegions
from lossd_server.jobs.job import Fault, Formula, Launch, Reducing, Reduction
from tests.backends.triton_jobs import array, bits, indices, rows_job, some
from tests.waiting import until

NONE = Reducing(reduction=Reduction.NONE)


def launches() -> list[Launch]:
    """Jobs of every formula, some of several items."""
    return [
        Launch(some(formula, (12, 300, 1), reducing=NONE, weight_gradient=False), 0.5)
        for formula in Formula
        if formula is not Formula.ENTROPY_COUNTS
    ]


def nothing(values: Any) -> bool:
    return False


def untold(took_ns: int) -> None:
    """Nobody counts how long copies took."""


def test_each_batch_tells_how_long_it_was_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for every batch, in nanoseconds."""
    cut, told = pipeline.make_batches, list[int]()
    monkeypatch.setattr(pipeline, "make_batches", lambda launches: cut(launches, 10_000))
    pipeline.run_launches(Interpreter(), launches(), nothing, told.append)

    assert len(told) == len(list(cut(launches(), 10_000)))
    assert min(told) > 0


def test_a_job_in_pieces_has_the_bits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the batches are, every result is that of one batch."""
    device = Interpreter()
    whole = [bits(computed) for computed in pipeline.run_launches(device, launches(), nothing, untold)]
    cut = pipeline.make_batches
    monkeypatch.setattr(pipeline, "make_batches", lambda launches: cut(launches, 10_000))
    pieces = [bits(computed) for computed in pipeline.run_launches(device, launches(), nothing, untold)]

    assert len(list(cut(launches(), 10_000))) > len(launches())
    assert pieces == whole


@pytest.mark.parametrize(
    "at, part, fault",
    [
        (7, "target", (Fault.CLASS_OUT_OF_RANGE, 7)),
        (3 * 300 + 5, "input", (Fault.INPUT_NOT_PROBABILITY, 3 * 300 + 5)),
    ],
)
def test_a_fault_of_a_piece_is_at_its_place_in_the_whole(
    monkeypatch: pytest.MonkeyPatch, at: int, part: str, fault: tuple[Fault, int]
) -> None:
    """Rows and elements are counted from the job's first, whichever piece they are in."""
    x, y = np.full((12, 300, 1), 0.5), np.zeros((12, 1))
    (x if part == "input" else y).reshape(-1)[at] = 1000
    if part == "target":
        job = rows_job(Formula.CROSS_ENTROPY_INDEX, array(x), target=indices(y))
    else:
        job = rows_job(Formula.BCE, array(x), target=array(np.ones_like(x)))
    cut = pipeline.make_batches
    monkeypatch.setattr(pipeline, "make_batches", lambda launches: cut(launches, 10_000))

    assert pipeline.run_launches(Interpreter(), [Launch(job, 1.0)], nothing, untold)[0].fault == fault


def test_operands_are_copied_from_where_they_lie() -> None:
    """Of a registered range, dense or at a pitch of its own; what lies elsewhere, or is small, is packed."""
    device = Interpreter()
    pinned = PinnedRegions(device)
    jobs = [some(Formula.CROSS_ENTROPY_DISTRIBUTION, (64, classes, 1)) for classes in (65, 300, 512)]
    packed = [
        bits(computed)
        for computed in pipeline.run_launches(device, [Launch(job, 1.0) for job in jobs], nothing, untold)
    ]
    inputs = [job.input.values for job in jobs]
    for values in inputs:
        pinned.add(values.ctypes.data, values.nbytes)

    assert [pinned.holds(values) for values in inputs] == [False, True, True]
    assert not pinned.holds(jobs[1].target.values)  # type: ignore[union-attr]
    assert [
        bits(c) for c in pipeline.run_launches(device, [Launch(job, 1.0) for job in jobs], pinned.holds, untold)
    ] == packed
    pinned.remove(inputs[1].ctypes.data)
    pinned.remove(inputs[1].ctypes.data)
    assert [pinned.holds(values) for values in inputs] == [False, False, True]


def test_a_range_stays_registered_while_it_is_read() -> None:
    """`remove` waits for who reads at that moment, and for nobody who comes later."""
    pinned = PinnedRegions(Interpreter())
    values = np.zeros(1 << 16, np.uint8)
    pinned.add(values.ctypes.data, values.nbytes)
    with ThreadPoolExecutor(1) as threads:
        with pinned.reading():
            removed = threads.submit(pinned.remove, values.ctypes.data)
            until(lambda: not pinned.holds(values), "nobody who comes later finds the range")
            with pinned.reading():
                assert not removed.done()
        removed.result()


def test_class_weights_gradients_add_up_over_parts() -> None:
    """A part begins with what the parts before it came to, in the same bits as the whole."""
    job = some(Formula.CROSS_ENTROPY_DISTRIBUTION, (9, 40, 1))
    assert job.target is not None
    device = Interpreter()
    (whole,) = pipeline.run_launches(device, [Launch(job, 1.0)], nothing, untold)
    total = None
    for begin, end in ((0, 4), (4, 9)):
        x, t = (array(a.values.reshape(9, 40, 1)[begin:end]) for a in (job.input, job.target))
        part = rows_job(job.formula, x, target=t, weight_gradient=True)
        (computed,) = pipeline.run_launches(device, [Launch(part, 1.0, total)], nothing, untold)
        total = computed.weight_gradient

    assert whole.weight_gradient is not None
    assert total is not None
    assert total.tobytes() == whole.weight_gradient.tobytes()


@pytest.mark.parametrize(
    "error, meaning",
    [
        (torch.OutOfMemoryError("CUDA out of memory."), MemoryError),
        (RuntimeError("CUDA error: out of memory"), MemoryError),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), DeviceLost),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceLost),
        (RuntimeError("Triton Error [CUDA]: device-side assert triggered"), DeviceLost),
        (ValueError("a bug"), ValueError),
    ],
)
def test_what_an_error_of_the_device_means(error: Exception, meaning: type[Exception]) -> None:
    """Exhausted memory costs one batch; any other CUDA error loses the device; a bug stays what it is."""
    assert type(device_error(error, 1 << 20)) is meaning

"""Ragged batches on Triton: same bits as alone, faults that stay in their job, two threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd_server.backends import Backend
from lossd_server.jobs.job import Fault, Formula, Job, Launch, Reducing, Reduction
from lossd_server.tensors.array import Array
from tests.backends.triton_jobs import array, bits, indices, rows_job, some


def operand(values: npt.NDArray[Any]) -> Array:
    return indices(values) if values.dtype == np.int64 else array(values)


def job(formula: Formula, x: npt.NDArray[Any], target: npt.NDArray[Any] | None = None) -> Job:
    """A Job of float32 on (outer, C, inner)."""
    return rows_job(formula, array(x), target=None if target is None else operand(target))


def ragged() -> list[Launch]:
    """Every formula in both dtypes, on rows of one tile and of several, strided and not."""
    shapes = [(3, 16, 1), (3, 17, 2), (1, 1030, 1)]
    launches = []
    for seed, formula in enumerate(Formula):
        for number, (outer, classes, inner) in enumerate(shapes):
            dtype = np.float64 if (number + seed) % 3 == 2 else np.float32
            shape = (outer, classes * inner, 1) if formula.elementwise else (outer, classes, inner)
            options = {"label_smoothing": 0.1 * (number % 2)}
            if formula in (Formula.CROSS_ENTROPY_INDEX, Formula.CROSS_ENTROPY_DISTRIBUTION):
                options |= {"z_loss": 0.1, "softcap": 5.0 * (number % 2)}
            launches.append(Launch(some(formula, shape, dtype, seed, **options), 1 / 3))
    return launches


def test_a_batch_equals_each_alone(triton: Backend) -> None:
    """Ragged jobs of every formula, dtype and size have the same bits in one batch, backwards, and alone."""
    launches = ragged()
    together = [bits(computed) for computed in triton.run(launches)]

    assert [bits(computed) for computed in triton.run(launches[::-1])][::-1] == together
    assert [bits(triton.run([launch])[0]) for launch in launches] == together


def test_rows_and_items_do_not_know_their_neighbours(triton: Backend) -> None:
    """A block of rows, or of whole chunks, computes what the whole computes there."""
    whole, part = (some(Formula.CROSS_ENTROPY_DISTRIBUTION, (70, 10, 1)) for _ in range(2))
    part = job(Formula.CROSS_ENTROPY_DISTRIBUTION, *(
        a.values.reshape(70, 10, 1)[33:50] for a in (part.input, part.target) if a is not None
    ))  # fmt: skip
    of_whole, of_part = triton.run([Launch(whole, 1.0), Launch(part, 1.0)])
    items = some(Formula.BCE, (1000, 10, 1))  # chunks of 410 items
    block = job(Formula.BCE, *(
        a.values.reshape(1000, 10, 1)[410:] for a in (items.input, items.target) if a is not None
    ))  # fmt: skip
    of_items, of_block = triton.run([Launch(items, 1.0), Launch(block, 1.0)])

    assert of_whole.losses is not None
    assert of_part.losses is not None
    assert of_part.losses.tobytes() == of_whole.losses[33:50].tobytes()
    assert of_items.chunk_sums is not None
    assert of_block.chunk_sums is not None
    assert of_block.chunk_sums.tobytes() == of_items.chunk_sums[1:].tobytes()


def test_two_threads_inside_run(triton: Backend) -> None:
    """Batches of two threads do not meet."""
    launches = ragged()[:36:7]
    expected = [bits(computed) for computed in triton.run(launches)]
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: [bits(computed) for computed in triton.run(launches)], range(4)))

    assert answers == [expected] * 4


def with_value(formula: Formula, at: dict[int, float], part: str = "input") -> Job:
    """A Job of (4, 3000, 1) halves, or class indices, with other values at some flat indices of a part."""
    x = np.full((4, 3000, 1), 0.5, np.float32)
    index = formula is Formula.CROSS_ENTROPY_INDEX
    target = np.full((4, 1), 7) if index else x.copy() if formula is Formula.BCE else None
    changed = x if part == "input" else target
    assert changed is not None
    for place, value in at.items():
        changed.reshape(-1)[place] = value
    return job(formula, x, target)


@pytest.mark.parametrize(
    "faulty, fault",
    [
        (with_value(Formula.CROSS_ENTROPY_INDEX, {2: 3000, 3: -1}, "target"), (Fault.CLASS_OUT_OF_RANGE, 2)),
        (with_value(Formula.CROSS_ENTROPY_INDEX, {1: -(2**63)}, "target"), (Fault.CLASS_OUT_OF_RANGE, 1)),
        (with_value(Formula.CROSS_ENTROPY_INDEX, {0: -100, 3: 2**63 - 1}, "target"), (Fault.CLASS_OUT_OF_RANGE, 3)),
        (with_value(Formula.BCE, {8000: 1.5, 11_999: -1}), (Fault.INPUT_NOT_PROBABILITY, 8000)),
        (with_value(Formula.BCE, {5000: float("nan")}, "target"), (Fault.TARGET_NOT_PROBABILITY, 5000)),
        (with_value(Formula.ENTROPY_COUNTS, {9000: -1, 7: float("nan")}), (Fault.NEGATIVE_COUNT, 7)),
        (with_value(Formula.ENTROPY_COUNTS, dict.fromkeys(range(3000, 6000), 0)), (Fault.EMPTY_COUNTS, 1)),
    ],
)
def test_a_fault_is_told_and_stays_in_its_job(triton: Backend, faulty: Job, fault: tuple[Fault, int]) -> None:
    """The first offending index comes back; the jobs before and after keep their bits."""
    neighbour = Launch(some(faulty.formula, (4, 3000, 1)), 1.0)
    before, told, after = triton.run([neighbour, Launch(faulty, 1.0), neighbour])

    assert told.fault == fault
    assert before.fault is None
    assert bits(before) == bits(after) == bits(triton.run([neighbour])[0])


def test_nothing_to_compute(triton: Backend) -> None:
    """No jobs, no rows and no classes are answered without a launch that faults."""
    options: dict[str, Any] = {"reducing": Reducing(reduction=Reduction.NONE)}
    empty = [some(formula, (0, 3, 1), **options) for formula in Formula]
    rowless = [some(formula, (2, 3, 0), **options) for formula in Formula if not formula.elementwise]

    assert triton.run([]) == []
    for computed in triton.run([Launch(one, 1.0) for one in empty + rowless]):
        found = computed.losses if computed.losses is not None else computed.values
        assert computed.fault is None
        assert found is not None
        assert found.size == 0
    computed = triton.run([Launch(some(Formula.ENTROPY_PROBABILITIES, (2, 0, 1)), 1.0)])[0]
    assert computed.losses is not None
    assert computed.losses.tolist() == [0, 0]

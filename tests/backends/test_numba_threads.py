"""The numba backend gives the same bits on any number of threads, alone or in a batch, whole or row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs.job import Computed, Formula, Kind, Launch, Layout
from lossd_server.tensors.array import Array
from tests.backends.test_numba_formulas import ELEMENTWISE, LAYOUTS, element_job, row_job

FLOAT32 = pb.DATA_TYPE_FLOAT32
ROWS: list[tuple[Formula, dict[str, Any]]] = [
    (Formula.CROSS_ENTROPY_INDEX, {"z_loss": 0.1, "outputs": frozenset({"lse", "entropy", "argmax", "correct"})}),
    (Formula.CROSS_ENTROPY_DISTRIBUTION, {"weights": True, "label_smoothing": 0.1, "softcap": 3.0}),
    (Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, {"input_kind": Kind.COUNTS}),
    (Formula.KL_ROWS, {"input_kind": Kind.LOGITS, "target_kind": Kind.LOGITS, "upstream": True}),
    (Formula.NLL, {}),
    (Formula.SOFTMAX, {"upstream": True}),
    (Formula.ENTROPY_COUNTS, {}),
]
LARGE = [Layout(700, 260, 1), Layout(40, 5000, 1), Layout(9, 500, 40), Layout(3000, 10, 3)]


def batch() -> list[Launch]:
    jobs = [row_job(formula, layout, FLOAT32, 1, **options) for formula, options in ROWS for layout in LAYOUTS + LARGE]
    jobs += [element_job(formula, (50, 4001), FLOAT32, **options) for formula, options in ELEMENTWISE]
    return [Launch(job, 0.25) for job in jobs]


def bits(computed: Computed) -> list[bytes | None]:
    arrays = [computed.losses, computed.values, computed.chunk_sums, computed.input_gradient, computed.target_gradient]
    arrays += [computed.weight_gradient, *(computed.outputs[name] for name in sorted(computed.outputs))]
    return [None if array is None else array.tobytes() for array in arrays]


@pytest.fixture(scope="module")
def launches() -> list[Launch]:
    return batch()


@pytest.fixture(scope="module")
def alone(launches: list[Launch]) -> list[list[bytes | None]]:
    """Each job by itself on one thread."""
    backend = NumbaBackend(1)
    found = [bits(backend.run([launch])[0]) for launch in launches]
    backend.close()
    return found


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads(threads: int, launches: list[Launch], alone: list[list[bytes | None]]) -> None:
    """One batch on 1, 2 and 4 threads has the bits of its jobs alone."""
    backend = NumbaBackend(threads)
    found = [bits(computed) for computed in backend.run(launches)]
    backend.close()

    assert found == alone


@pytest.mark.parametrize("formula, options", [case for case in ROWS if case[0] is not Formula.KL_ROWS])
def test_row_by_row(formula: Formula, options: dict[str, Any]) -> None:
    """A row's losses and gradients do not depend on its neighbours, nor on how far apart its classes lie."""
    backend = NumbaBackend(1)
    options = {name: value for name, value in options.items() if name not in ("upstream", "weights")}
    job = replace(row_job(formula, Layout(3, 300, 5), FLOAT32, 2, **options), weight_gradient=False)
    whole = backend.run([Launch(job, 0.25)])[0]
    for row in range(15):
        outer, inner = divmod(row, 5)
        single = replace(job, layout=Layout(1, 300, 1), input=taken(job.input, outer, inner))
        if job.target is not None and job.target.dtype == FLOAT32:
            single = replace(single, target=taken(job.target, outer, inner))
        elif job.target is not None:
            single = replace(single, target=Array(job.target.values[row : row + 1].copy(), job.target.dtype, (1,)))
        one = backend.run([Launch(single, 0.25)])[0]

        assert one.input_gradient is not None
        assert whole.input_gradient is not None
        strided = whole.input_gradient.reshape(3, 300, 5)[outer, :, inner]
        assert one.input_gradient.tobytes() == strided.tobytes()
        if one.losses is not None and whole.losses is not None:
            assert one.losses[0].tobytes() == whole.losses[row].tobytes()
    backend.close()


def taken(operand: Array, outer: int, inner: int) -> Array:
    """One row of an operand (3, 300, 5), contiguous."""
    return Array(operand.values.reshape(3, 300, 5)[outer, :, inner].copy(), operand.dtype, (1, 300, 1))


def test_weight_gradient_is_added_in_order() -> None:
    """The class weights' gradient is a plain sum over rows from the first to the last: that of a part and its rest."""
    backend = NumbaBackend(4)
    job = row_job(Formula.CROSS_ENTROPY_DISTRIBUTION, Layout(600, 1500, 1), FLOAT32, 3)
    assert job.target is not None
    whole = backend.run([Launch(job, 1.0)])[0].weight_gradient
    sums = np.zeros(1500)
    for row in range(600):
        here = slice(row * 1500, row * 1500 + 1500)
        single = replace(
            job, layout=Layout(1, 1500, 1), input=replace(job.input, values=job.input.values[here], shape=(1, 1500, 1)),
            target=replace(job.target, values=job.target.values[here], shape=(1, 1500, 1)),
        )  # fmt: skip
        part = backend.run([Launch(single, 1.0)])[0].weight_gradient
        assert part is not None
        sums += part
    backend.close()

    assert whole is not None
    assert whole.tobytes() == sums.tobytes()

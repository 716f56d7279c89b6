"""The numba kernels on both sides of every size at which they change their way: lanes, blocks, kept exponentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd.bench.float64 import FORMS
from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba import NumbaBackend
from lossd_server.backends.numba.layout.blocks import BLOCK
from lossd_server.backends.numba.softmax.gradients import PAST_CACHE_BYTES, PAST_CACHE_ROW
from lossd_server.backends.numba.softmax.lane_state import MOST_LANE_CLASSES
from lossd_server.backends.numba.softmax.row_per_block import KEPT_BYTES
from lossd_server.jobs.job import Formula, Job, Launch, Layout
from lossd_server.tensors.array import Array

WIRE = {np.float32: pb.DATA_TYPE_FLOAT32, np.float64: pb.DATA_TYPE_FLOAT64}
ULP = {np.float32: 2.0**-23, np.float64: 2.0**-52}


@pytest.fixture(scope="module")
def numba() -> Iterator[NumbaBackend]:
    backend = NumbaBackend(1)
    yield backend
    backend.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["any", "rising", "falling"])
@pytest.mark.parametrize("limit", [MOST_LANE_CLASSES, BLOCK, KEPT_BYTES // 8, KEPT_BYTES // 4])
@pytest.mark.parametrize("beyond", [0, 1])
def test_both_sides_of_a_size(numba: NumbaBackend, limit: int, beyond: int, order: str, dtype: Any) -> None:
    """Loss and gradient are right where a row's greatest logit comes first, last or anywhere."""
    classes, rows = limit + beyond, 3
    x = np.random.default_rng(classes).normal(0, 8, (rows, classes))
    x = {"any": x, "rising": np.sort(x, axis=1), "falling": -np.sort(-x, axis=1)}[order].astype(dtype)
    labels = np.array([0, classes // 2, classes - 1])
    job = Job(
        rpc="", formula=Formula.CROSS_ENTROPY_INDEX, layout=Layout(rows, classes, 1), compute=np.dtype(dtype),
        input=Array(x.reshape(-1), WIRE[dtype], x.shape), target=Array(labels, pb.DATA_TYPE_INT64, (rows,)),
        input_gradient=True,
    )  # fmt: skip
    (found,) = numba.run([Launch(job, 1.0)])
    extended: Any = x.astype(np.longdouble)  # float64 would round the exponents, and exp makes the most of that
    losses, gradient = FORMS["cross_entropy"](extended, labels)

    assert found.losses is not None
    assert found.input_gradient is not None
    np.testing.assert_allclose(found.losses, losses.astype(np.float64), rtol=4 * ULP[dtype])
    error = np.abs(found.input_gradient.reshape(x.shape) - gradient)
    assert np.all(error <= 4 * ULP[dtype] * np.abs(gradient) + np.finfo(dtype).tiny)


def test_gradients_past_the_cache(numba: NumbaBackend) -> None:
    """A gradient so large that it is stored past the cache has the bits of the same rows computed apart."""
    classes = PAST_CACHE_ROW // 4 + 37 * 32  # whole vectors: every row starts on a cache line
    rows = PAST_CACHE_BYTES // (4 * classes) + 2
    x = np.random.default_rng(0).normal(0, 3, (rows, classes)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, classes, rows)

    def gradient(begin: int, end: int) -> Any:
        part = np.ascontiguousarray(x[begin:end])
        job = Job(
            rpc="", formula=Formula.CROSS_ENTROPY_INDEX, layout=Layout(end - begin, classes, 1),
            compute=np.dtype(np.float32), input=Array(part.reshape(-1), pb.DATA_TYPE_FLOAT32, part.shape),
            target=Array(labels[begin:end], pb.DATA_TYPE_INT64, (end - begin,)), input_gradient=True,
        )  # fmt: skip
        found = numba.run([Launch(job, 1.0)])[0].input_gradient
        assert found is not None
        return found

    np.testing.assert_array_equal(gradient(0, rows), np.concatenate([gradient(r, r + 1) for r in range(rows)]))

"""The Triton kernels against PyTorch in float64: long rows, strided rows, broadcasts, dtypes, and its own exp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Formula, Job, Layout, Reducing, Reduction
from lossd_server.tensors.array import Array, View
from lossd_server.tensors.dtypes import float8_values
from tests.backends.expected import DTYPES, exact, expected
from tests.backends.triton_jobs import alone, array, assert_close, assert_relative, rows_job


@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 10, 1), (3, 65, 7), (2, 5000, 1), (1, 2049, 3)])
@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64])
def test_index(triton: Backend, shape: tuple[int, int, int], dtype: int) -> None:
    """Rows of one block, of several, and with their classes far apart agree with PyTorch in float64."""
    rng = np.random.default_rng(1)
    outer, classes, inner = shape
    x, y = array(rng.normal(0, 3, shape), dtype), rng.integers(0, classes, (outer, inner))
    job = rows_job(Formula.CROSS_ENTROPY_INDEX, x, target=Array(y.reshape(-1), pb.DATA_TYPE_INT64, y.shape))
    computed, wanted = alone(triton, job, 0.5), expected(job, 0.5)

    assert_relative(computed.losses, wanted.losses, rtol=1e-6)
    assert_close(computed.input_gradient, wanted.input_gradient, DTYPES[dtype])


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT16, pb.DATA_TYPE_BFLOAT16])
def test_distribution_of_16_bits(triton: Backend, dtype: int) -> None:
    """16-bit logits and targets with weights of classes and rows: each gradient has its own tensor's dtype."""
    rng = np.random.default_rng(2)
    x, t = array(rng.normal(size=(4, 33, 2)), dtype), array(rng.random((4, 33, 2)))
    w, r, g = rng.random(33).astype(np.float32), rng.random(8), rng.random(8)
    job = rows_job(
        Formula.CROSS_ENTROPY_DISTRIBUTION, x, target=t, class_weight=w, row_weight=r, row_upstream=g,
        label_smoothing=0.1, target_gradient=True,
    )  # fmt: skip
    computed, wanted = alone(triton, job), expected(job, 1.0)

    assert_relative(computed.losses, wanted.losses, rtol=1e-6)
    assert_close(computed.input_gradient, wanted.input_gradient, DTYPES[dtype])
    assert_close(computed.target_gradient, wanted.target_gradient)


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT8_E4M3FN, pb.DATA_TYPE_FLOAT8_E5M2])
def test_8_bit_floats(triton: Backend, dtype: int) -> None:
    """All 256 bytes are read as the numbers that they stand for, by rows and by elements; gradients are float32."""
    values = float8_values(dtype)
    x = Array(np.arange(256, dtype=np.uint8), dtype, (16, 16, 1))
    wide = Array(values, pb.DATA_TYPE_FLOAT32, x.shape)
    for formula in (Formula.LOG_SOFTMAX, Formula.ENTROPY_LOGITS, Formula.SIGMOID):
        job = rows_job(formula, x)
        computed, wanted = alone(triton, job), alone(triton, replace(job, input=wide))

        for found, expected_values in (
            (computed.losses, wanted.losses),
            (computed.values, wanted.values),
            (computed.input_gradient, wanted.input_gradient),
        ):
            assert (found is None) == (expected_values is None)
            if found is not None and expected_values is not None:
                assert found.dtype == expected_values.dtype
                largest = np.abs(expected_values[np.isfinite(expected_values)]).max()
                np.testing.assert_allclose(found, expected_values, rtol=1e-6, atol=1e-6 * largest)


def test_counts_keep_the_digits_of_a_nearly_certain_row(triton: Backend) -> None:
    """Counts of 1e6 against 1: q is rounded to 1 − 1e-6, its logarithm is not."""
    x = array(np.array([[[1e6], [1.0]], [[3e38], [3e38]], [[5.0], [0.0]]]))
    computed = alone(triton, rows_job(Formula.ENTROPY_COUNTS, x))

    q = 1 / (1 + 1e6)
    assert_relative(computed.losses, [np.log1p(1e-6) * (1 - q) - q * np.log(q), np.log(2), 0], rtol=3e-7)


@pytest.mark.parametrize("shape", [(5, 7), (3, 4097), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
def test_broadcasts(triton: Backend, shape: tuple[int, ...]) -> None:
    """weight, pos_weight and upstream are read through their strides, those of alternating dimensions too."""
    rng = np.random.default_rng(4)
    x, t = array(rng.normal(size=shape)), array(rng.random(shape))
    views = []
    for kept in ({1}, {0, 2, 4}, {len(shape) - 1}):
        small = rng.random([size if axis in kept else 1 for axis, size in enumerate(shape)]).astype(np.float32)
        strides = tuple(0 if small.shape[axis] == 1 else small.strides[axis] // 4 for axis in range(len(shape)))
        views.append(View(small.reshape(-1), pb.DATA_TYPE_FLOAT32, shape, strides))
    job = Job(
        rpc="", formula=Formula.BCE_WITH_LOGITS, layout=Layout(shape[0], int(np.prod(shape[1:])), 1),
        compute=np.dtype(np.float32), input=x, target=t, weight=views[0], pos_weight=views[1], upstream=views[2],
        reducing=Reducing(reduction=Reduction.NONE), input_gradient=True, target_gradient=True,
    )  # fmt: skip
    computed, wanted = alone(triton, job), expected(job, 1.0)

    assert_close(computed.losses, wanted.losses)
    assert_close(computed.input_gradient, wanted.input_gradient)
    assert_close(computed.target_gradient, wanted.target_gradient)
    assert computed.chunk_sums is not None
    assert wanted.losses is not None
    np.testing.assert_allclose(computed.chunk_sums.sum(), wanted.losses.sum(), rtol=1e-6)


def test_exp_and_logarithms_of_float32(triton: Backend) -> None:
    """Softmax of two classes down to its smallest normal probability, and BCE of subnormal ones, keep their digits."""
    gap = np.linspace(0, 87, 800)
    x = array(np.stack([np.zeros(800), -gap], axis=1)[:, :, None])
    y = Array(np.zeros(800, np.int64), pb.DATA_TYPE_INT64, (800, 1))
    computed = alone(triton, rows_job(Formula.CROSS_ENTROPY_INDEX, x, target=y))
    tiny = array(np.array([1e-38, 1e-40, 1e-43]))
    of_tiny = Job(
        rpc="", formula=Formula.BCE, layout=Layout(3, 1, 1), compute=np.dtype(np.float32), input=tiny,
        target=array(np.ones(3)), reducing=Reducing(reduction=Reduction.NONE),
    )  # fmt: skip

    assert_relative(computed.losses, np.log1p(np.exp(exact(x)[:, 1, 0])), rtol=5e-7)
    assert_relative(alone(triton, of_tiny).losses, -np.log(exact(tiny)), rtol=2e-7)

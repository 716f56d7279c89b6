"""Rows longer than registers hold, cut into pieces; and what a row may not know: where it lies, and beside whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Formula, Job, Launch
from tests.backends.expected import DTYPES, exact, expected
from tests.backends.triton_jobs import alone, array, assert_close, assert_relative, bits, indices, rows_job

INF, NAN = float("inf"), float("nan")
LONG = 20_001  # three pieces, the last of them short; not a whole number of 16 bytes
OUTPUTS = frozenset({"lse", "entropy", "argmax", "correct"})


def index_job(x: Any, y: Any, dtype: int = pb.DATA_TYPE_FLOAT32, **options: Any) -> Job:
    """Logits (N, C), classes (N,)."""
    return rows_job(
        Formula.CROSS_ENTROPY_INDEX, array(np.asarray(x)[:, :, None], dtype), target=indices(np.asarray(y)), **options
    )


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_index(triton: Backend, dtype: int, smoothing: float) -> None:
    """Loss, gradient and by-products of rows in pieces are autograd's, with weights of classes and rows and z_loss."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 3, (3, LONG)), np.array([5, -100, LONG - 1])
    w, r = rng.random(LONG).astype(np.float32), rng.random(3)
    job = index_job(x, y, dtype, class_weight=w, row_weight=r, label_smoothing=smoothing, z_loss=0.01, outputs=OUTPUTS)
    computed, wanted = alone(triton, job, 0.5), expected(job, 0.5)

    assert_relative(computed.losses, wanted.losses, 1e-6)
    assert_close(computed.input_gradient, wanted.input_gradient, DTYPES[dtype], 2)
    assert_relative(computed.outputs["lse"], wanted.outputs["lse"], 5e-7)
    assert_relative(computed.outputs["entropy"], wanted.outputs["entropy"], 1e-6)
    assert computed.outputs["argmax"].tolist() == exact(job.input).argmax(1).reshape(-1).tolist()


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_BFLOAT16])
def test_distribution(triton: Backend, dtype: int) -> None:
    """Targets of another dtype than the logits: gradients of input, target and class weight are autograd's."""
    rng = np.random.default_rng(2)
    x, t = array(rng.normal(0, 3, (2, LONG, 1)), dtype), array(rng.random((2, LONG, 1)))
    job = rows_job(
        Formula.CROSS_ENTROPY_DISTRIBUTION, x, target=t, target_gradient=True, weight_gradient=True, label_smoothing=0.2
    )
    computed, wanted = alone(triton, job), expected(job, 1.0)

    assert_relative(computed.losses, wanted.losses, 1e-6)
    assert_close(computed.input_gradient, wanted.input_gradient, DTYPES[dtype], 2)
    assert_close(computed.target_gradient, wanted.target_gradient, np.float32, 2)
    assert_relative(computed.weight_gradient, wanted.weight_gradient, 1e-6)


@pytest.mark.parametrize("formula", [Formula.ENTROPY_LOGITS, Formula.SOFTMAX, Formula.LOG_SOFTMAX])
def test_other_formulas(triton: Backend, formula: Formula) -> None:
    """Entropy with its gradient, and activations, of rows in pieces."""
    x = array(np.random.default_rng(3).normal(0, 3, (2, LONG, 1)))
    entropy = formula is Formula.ENTROPY_LOGITS
    job = rows_job(formula, x, input_gradient=entropy)
    computed, wanted = alone(triton, job), expected(job, 1.0)

    if entropy:
        assert_relative(computed.losses, wanted.losses, 1e-6)
        assert_close(computed.input_gradient, wanted.input_gradient, np.float32, 2)
    else:
        assert_close(computed.values, wanted.values)


def test_confident_rows_in_pieces(triton: Backend) -> None:
    """The maximum in one piece and all else in others: loss and gradient keep their digits; ties lie in two pieces."""
    x = np.full((3, LONG), -INF)
    x[0, [3, 19_000]] = 60, 0  # one class is nearly certain
    x[1, [10, 12_000, 20_000]] = 7  # three equal classes, one a piece
    x[2, :] = -1e4
    x[2, 20_000] = 1e4
    job = index_job(x, [3, 12_000, 20_000], outputs=OUTPUTS)
    computed = alone(triton, job)

    assert_relative(computed.losses, [np.log1p(np.exp(-60.0)), np.log(3), 0], 1e-6)
    assert computed.outputs["argmax"].tolist() == [3, 10, 20_000]
    assert computed.input_gradient is not None
    dx = computed.input_gradient.reshape(3, LONG)
    assert_relative(dx[0, [3, 19_000]], [-np.exp(-60.0), np.exp(-60.0)], 1e-6)
    assert_relative(dx[1, [10, 12_000, 20_000, 0]], [1 / 3, -2 / 3, 1 / 3, 0], 2e-7)
    assert not dx[2].any()


def test_undefined_rows_in_pieces(triton: Backend) -> None:
    """NaN or +∞ in one piece makes its row NaN and no other; an ignored row is 0 whatever it holds."""
    x = np.zeros((5, LONG))
    x[0, 15_000] = NAN
    x[1, 100] = INF
    x[2, :] = -INF
    x[3, 9000] = NAN
    computed = alone(triton, index_job(x, [0, 0, 0, -100, 0], outputs=OUTPUTS))

    assert_relative(computed.losses, [NAN, NAN, NAN, 0, np.log(LONG)], 2e-7)
    assert computed.outputs["argmax"].tolist() == [-1, 100, 0, -1, 0]
    assert computed.input_gradient is not None
    dx = computed.input_gradient.reshape(5, LONG)
    assert np.isnan(dx[:3]).all()
    assert not dx[3].any()


@pytest.mark.parametrize("classes", [10, 65, 1001, 20_001])
def test_a_row_has_its_bits_wherever_it_lies(triton: Backend, classes: int) -> None:
    """A block of rows, beginning at any row, has the bits that they have in the whole; a batch's order changes none."""
    rng = np.random.default_rng(4)
    rows = 9
    x, y = rng.normal(0, 3, (rows, classes)), rng.integers(0, classes, rows)
    whole = alone(triton, index_job(x, y, pb.DATA_TYPE_BFLOAT16))
    assert whole.losses is not None
    assert whole.input_gradient is not None
    for begin, end in ((1, 4), (5, 6)):
        part = index_job(x[begin:end], y[begin:end], pb.DATA_TYPE_BFLOAT16)
        other = index_job(x[:3], y[:3], pb.DATA_TYPE_BFLOAT16)
        _, computed, _ = triton.run([Launch(other, 1.0), Launch(part, 1.0), Launch(other, 1.0)])

        assert computed.losses is not None
        assert computed.losses.tobytes() == whole.losses[begin:end].tobytes()
        assert computed.input_gradient is not None
        assert computed.input_gradient.tobytes() == whole.input_gradient.reshape(rows, -1)[begin:end].tobytes()
        assert bits(computed) == bits(alone(triton, part))


def test_a_class_out_of_range_of_a_long_row(triton: Backend) -> None:
    """The first offending row comes back."""
    x = np.zeros((3, LONG))

    assert alone(triton, index_job(x, [0, LONG, -1])).fault == alone(triton, index_job(x[:, :10], [0, 10, -1])).fault

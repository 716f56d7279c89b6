"""What softmax rows give on Triton beside their loss: z_loss, softcap, by-products, weight gradients, activations."""

from __future__ import annotations

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Formula
from tests.backends.expected import DTYPES, exact, expected
from tests.backends.triton_jobs import alone, array, assert_close, assert_relative, indices, rows_job, view

INF, NAN = float("inf"), float("nan")
SHAPES = [((6, 10, 3), pb.DATA_TYPE_FLOAT32), ((2, 1100, 1), pb.DATA_TYPE_FLOAT64), ((7, 30, 1), pb.DATA_TYPE_BFLOAT16)]


@pytest.mark.parametrize("shape, dtype", SHAPES)
@pytest.mark.parametrize("softcap", [0.0, 4.0])
def test_z_loss_and_softcap(triton: Backend, shape: tuple[int, int, int], dtype: int, softcap: float) -> None:
    """Rows gain κ·lse² of the capped logits; gradients of input, target and class weight are autograd's."""
    rng = np.random.default_rng(8)
    storage = DTYPES[dtype]
    x, t = array(rng.normal(0, 6, shape), dtype), array(rng.random(shape), dtype)
    wide = np.float64 if storage is np.float64 else np.float32
    w, r = rng.random(shape[1]).astype(wide), rng.random(shape[0] * shape[2])
    job = rows_job(
        Formula.CROSS_ENTROPY_DISTRIBUTION, x, target=t, class_weight=w, row_weight=r, z_loss=0.3, softcap=softcap,
        label_smoothing=0.2, target_gradient=True, weight_gradient=True,
    )  # fmt: skip
    computed, wanted = alone(triton, job, 0.5), expected(job, 0.5)

    assert_relative(computed.losses, wanted.losses, 1e-13 if wide is np.float64 else 1e-6)
    assert_close(computed.input_gradient, wanted.input_gradient, storage, 2)
    assert_close(computed.target_gradient, wanted.target_gradient, storage, 2)
    assert_relative(computed.weight_gradient, wanted.weight_gradient, 1e-13 if wide is np.float64 else 1e-6)


def test_softcap_of_extremes(triton: Backend) -> None:
    """Infinite logits are worth ±k and have no gradient; small ones keep all their digits."""
    x = np.array([[INF, -INF, 0], [1e-6, 3e-6, 2e-6]])
    y = indices(np.array([[0], [1]]))
    computed = alone(triton, rows_job(Formula.CROSS_ENTROPY_INDEX, array(x[:, :, None]), target=y, softcap=2.0))

    p = np.exp([2, -2, 0]) / np.exp([2, -2, 0]).sum()
    assert_relative(computed.losses, [-np.log(p[0]), np.log(3) - 1e-6], rtol=1e-7)
    small = (1 + np.array([-1e-6, 1e-6, 0])) / 3 - [0, 1, 0]
    assert_relative(computed.input_gradient, [0, 0, p[2], *small], rtol=1e-6)


@pytest.mark.parametrize("shape, dtype", SHAPES[:2])
def test_by_products(triton: Backend, shape: tuple[int, int, int], dtype: int) -> None:
    """lse, entropy, argmax and correct of every row, the ignored ones among them, which are never correct."""
    x = array(np.random.default_rng(9).normal(0, 2, shape), dtype)
    best = exact(x).argmax(axis=1)
    y = best.copy()
    y[0] = (best[0] + 1) % shape[1]
    y[-1, -1] = -100
    names = frozenset({"lse", "entropy", "argmax", "correct"})
    job = rows_job(Formula.CROSS_ENTROPY_INDEX, x, target=indices(y), outputs=names)
    outputs, wanted = alone(triton, job).outputs, expected(job, 1.0).outputs

    rtol = 1e-14 if DTYPES[dtype] is np.float64 else 5e-7
    assert outputs.keys() == names
    assert_relative(outputs["lse"], wanted["lse"], rtol)
    assert_relative(outputs["entropy"], wanted["entropy"], rtol)
    assert outputs["argmax"].tolist() == best.reshape(-1).tolist()
    assert outputs["correct"].tolist() == (y == best).reshape(-1).tolist()


def test_by_products_of_undefined_rows(triton: Backend) -> None:
    """NaN: no argmax. Ties: the first. A row that is NaN has by-products that are."""
    x = np.array([[1, NAN, 2], [-INF, -INF, -INF], [0, INF, INF], [3, 3, -INF]])
    job = rows_job(
        Formula.CROSS_ENTROPY_INDEX, array(x[:, :, None]), target=indices(np.zeros((4, 1))),
        outputs=frozenset({"lse", "entropy", "argmax", "correct"}),
    )  # fmt: skip
    computed = alone(triton, job)

    assert computed.outputs["argmax"].tolist() == [-1, 0, 1, 0]
    assert computed.outputs["correct"].tolist() == [0, 1, 0, 1]
    assert_relative(computed.outputs["lse"], [NAN, NAN, NAN, 3 + np.log(2)], rtol=1e-7)
    assert_relative(computed.outputs["entropy"], [NAN, NAN, NAN, np.log(2)], rtol=1e-7)
    assert_relative(computed.losses, [NAN, NAN, NAN, np.log(2)], rtol=1e-7)


def test_a_zero_annihilates_in_the_weight_gradient(triton: Backend) -> None:
    """A target of 0 at p = 0, and a row of weight 0, add nothing; rows are added in their order, in float64."""
    x = np.array([[0, -INF], [1e4, 0], [0, 0]])
    t = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    job = rows_job(
        Formula.CROSS_ENTROPY_DISTRIBUTION, array(x[:, :, None]), target=array(t[:, :, None]), weight_gradient=True,
        row_weight=np.array([1.0, 0.0, 1.0]),
    )  # fmt: skip

    assert_relative(alone(triton, job).weight_gradient, [np.log(2) / 2, np.log(2) / 2], rtol=1e-7)


@pytest.mark.parametrize("shape, dtype", SHAPES)
@pytest.mark.parametrize("formula", [Formula.SOFTMAX, Formula.LOG_SOFTMAX])
def test_activations(triton: Backend, formula: Formula, shape: tuple[int, int, int], dtype: int) -> None:
    """Values in the input's dtype, no losses, and the upstream gradient times the Jacobian."""
    rng = np.random.default_rng(10)
    storage = DTYPES[dtype]
    x, g = array(rng.normal(0, 3, shape), dtype), rng.normal(size=shape)
    job = rows_job(formula, x, upstream=view(g))
    computed, wanted = alone(triton, job), expected(job, 1.0)

    assert computed.losses is None
    assert_close(computed.values, wanted.values, storage)
    assert_close(computed.input_gradient, wanted.input_gradient, storage, 2)


def test_activations_keep_what_one_class_leaves(triton: Backend) -> None:
    """A gap of 30: the gradient at the confident class is exact too, and exactly 0 where every upstream is one."""
    x, g = array(np.array([[[30.0], [0.0]]])), np.array([[[1.0], [3.0]]])
    p, q = 1 / (1 + np.exp(-30)), np.exp(-30) / (1 + np.exp(-30))
    of_softmax, of_log = (
        alone(triton, rows_job(formula, x, upstream=view(g))) for formula in (Formula.SOFTMAX, Formula.LOG_SOFTMAX)
    )

    assert_relative(of_softmax.input_gradient, [-2 * p * q, 2 * p * q], rtol=5e-7)
    assert_relative(of_log.input_gradient, [q - 3 * p, 3 - 4 * q], rtol=5e-7)
    assert_relative(alone(triton, rows_job(Formula.SOFTMAX, x)).input_gradient, [0, 0], rtol=0)
    assert_relative(alone(triton, rows_job(Formula.LOG_SOFTMAX, x)).input_gradient, [q - p, 1 - 2 * q], rtol=5e-7)


def test_activations_of_infinities(triton: Backend) -> None:
    """−∞ is worth exp(−∞) = 0; a row of nothing else, with +∞ or with NaN, is NaN and leaves its neighbours alone."""
    x = array(np.array([[0, -INF], [-INF, -INF], [INF, 0], [NAN, 0], [0, 0]])[:, :, None])
    of_softmax, of_log = (alone(triton, rows_job(f, x)) for f in (Formula.SOFTMAX, Formula.LOG_SOFTMAX))

    half = np.log(0.5)
    assert_relative(of_softmax.values, [1, 0, *[NAN] * 6, 0.5, 0.5], rtol=0)
    assert_relative(of_log.values, [0, -INF, *[NAN] * 6, half, half], rtol=1e-7)

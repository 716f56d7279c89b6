"""Rows of every kind, and elementwise formulas, on Triton: against PyTorch in float64, and closed answers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends import Backend
from lossd_server.jobs.job import Computed, Fault, Formula, Job, Kind, Reducing, Reduction
from lossd_server.tensors.array import Array
from tests.backends.expected import DTYPES, exact, expected
from tests.backends.triton_jobs import alone, array, assert_close, assert_relative, indices, rows_job, view

INF, NAN = float("inf"), float("nan")
NONE = Reducing(reduction=Reduction.NONE)


def values_of(kind: Kind, rng: np.random.Generator, shape: tuple[int, ...], dtype: int) -> Array:
    """Ordinary numbers of a kind, not normalised save for its sake."""
    if kind is Kind.COUNTS:
        return array(rng.integers(1, 90, shape), dtype)
    if kind is Kind.PROBABILITIES:
        return array(rng.uniform(0.01, 1, shape), dtype)
    return array(rng.normal(0, 2, shape) if kind is Kind.LOGITS else -rng.exponential(2, shape), dtype)


@pytest.mark.parametrize(
    "kind, target_kind",
    [
        pair
        for pair in product(Kind, (Kind.LOGITS, Kind.PROBABILITIES, Kind.LOG_PROBABILITIES))
        if {Kind.LOGITS, Kind.COUNTS} & set(pair)
    ],
)
@pytest.mark.parametrize("shape, dtype", [((3, 40, 2), pb.DATA_TYPE_FLOAT32), ((1, 1100, 1), pb.DATA_TYPE_FLOAT64)])
def test_divergence_of_rows(
    triton: Backend, kind: Kind, target_kind: Kind, shape: tuple[int, int, int], dtype: int
) -> None:
    """Every pair of kinds: each element's loss, the rows' sums, both gradients with an upstream one an element."""
    rng = np.random.default_rng(5)
    x, t = values_of(kind, rng, shape, dtype), values_of(target_kind, rng, shape, dtype)
    g = rng.normal(size=shape)
    job = rows_job(
        Formula.KL_ROWS, x, target=t, input_kind=kind, target_kind=target_kind, upstream=view(g), reducing=NONE,
        target_gradient=True,
    )  # fmt: skip
    computed, wanted = alone(triton, job, 0.5), expected(job, 0.5)

    storage = DTYPES[dtype]
    assert_close(computed.values, wanted.values, storage, 4)
    assert_close(computed.losses, wanted.losses, np.float64, 8 if storage is np.float64 else 1e9)
    assert_close(computed.input_gradient, wanted.input_gradient, storage, 4)
    assert_close(computed.target_gradient, wanted.target_gradient, storage, 8)


@pytest.mark.parametrize("kind", [Kind.LOG_PROBABILITIES, Kind.PROBABILITIES, Kind.COUNTS])
@pytest.mark.parametrize("shape, dtype", [((5, 9, 3), pb.DATA_TYPE_FLOAT32), ((2, 1100, 1), pb.DATA_TYPE_FLOAT64)])
def test_cross_entropy_of_other_kinds(triton: Backend, kind: Kind, shape: tuple[int, int, int], dtype: int) -> None:
    """Distributions and indices, with weights of classes and rows and smoothing, and the weights' gradient."""
    rng = np.random.default_rng(6)
    x, t = values_of(kind, rng, shape, dtype), array(rng.random(shape), dtype)
    y = rng.integers(0, shape[1], (shape[0], shape[2]))
    rows = shape[0] * shape[2]
    storage = DTYPES[dtype]
    w, r, g = rng.random(shape[1]).astype(storage), rng.random(rows), rng.normal(size=rows)
    shared: dict[str, Any] = {
        "input_kind": kind, "class_weight": w, "row_weight": r, "row_upstream": g, "label_smoothing": 0.1,
    }  # fmt: skip
    by_class = rows_job(Formula.CROSS_ENTROPY_KINDS_INDEX, x, target=indices(y), **shared)
    by_distribution = rows_job(
        Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, x, target=t, target_gradient=True, weight_gradient=True, **shared
    )

    for job in (by_class, by_distribution):
        computed, wanted = alone(triton, job, 0.5), expected(job, 0.5)
        assert_relative(computed.losses, wanted.losses, 1e-13 if storage is np.float64 else 2e-6)
        assert_close(computed.input_gradient, wanted.input_gradient, storage, 2)
    assert_close(computed.target_gradient, wanted.target_gradient, storage, 2)
    assert_close(computed.weight_gradient, wanted.weight_gradient, np.float64, 4 if storage is np.float64 else 1e9)


def test_nll_takes_one_entry_a_row(triton: Backend) -> None:
    """−w[y]·u[y]; NaN elsewhere in the row, an ignored row and a class of weight 0 do not show."""
    u = np.array([[-0.5, NAN, -2], [-1, -2, -3], [NAN, NAN, NAN], [-1, -INF, -1]])
    job = rows_job(
        Formula.NLL, array(u[:, :, None]), target=indices(np.array([[0], [2], [1], [1]])), ignore_index=1,
        class_weight=np.array([2, 7, 0], np.float32),
    )  # fmt: skip
    computed = alone(triton, job, 0.25)

    assert_relative(computed.losses, [1, 0, 0, 0], rtol=0)
    assert_relative(computed.input_gradient, [-0.5, *[0] * 11], rtol=0)


def elements(formula: Formula, x: Any, t: Any = None, dtype: int = pb.DATA_TYPE_FLOAT32, **options: Any) -> Job:
    """A Job on elements, unreduced, with its gradients."""
    return rows_job(
        formula, array(np.reshape(x, (-1, 1, 1)), dtype), reducing=NONE, target_gradient=t is not None,
        target=None if t is None else array(np.reshape(t, (-1, 1, 1)), dtype), **options,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64])
def test_elementwise_formulas(triton: Backend, dtype: int) -> None:
    """KL of probabilities and logarithms, self-information, sigmoid and log-sigmoid, with an upstream gradient."""
    rng = np.random.default_rng(7)
    linear, log = Kind.PROBABILITIES, Kind.LOG_PROBABILITIES
    storage = DTYPES[dtype]
    g = rng.normal(size=(300, 1, 1)).astype(storage)
    for formula in (Formula.SELF_INFORMATION, Formula.SIGMOID, Formula.LOG_SIGMOID):
        x = values_of(linear if formula is Formula.SELF_INFORMATION else log, rng, (300, 1, 1), dtype)
        job = elements(formula, exact(x), dtype=dtype, upstream=view(g))
        computed, wanted = alone(triton, job), expected(job, 1.0)
        if formula.activation:
            assert_close(computed.values, wanted.values, storage)
        else:
            assert_close(computed.losses, wanted.losses, storage)
        assert_close(computed.input_gradient, wanted.input_gradient, storage)
    for kind, target_kind in product((linear, log), repeat=2):
        x, t = values_of(kind, rng, (300, 1, 1), dtype), values_of(target_kind, rng, (300, 1, 1), dtype)
        kinds = {"input_kind": kind, "target_kind": target_kind}
        job = elements(Formula.KL, exact(x), exact(t), dtype, upstream=view(g), **kinds)
        computed, wanted = alone(triton, job), expected(job, 1.0)
        assert_close(computed.losses, wanted.losses, storage)
        assert_close(computed.input_gradient, wanted.input_gradient, storage)
        assert_close(computed.target_gradient, wanted.target_gradient, storage)


def kl(backend: Backend, kind: Kind, x: Any, target_kind: Kind, t: Any) -> Computed:
    return alone(backend, elements(Formula.KL, x, t, input_kind=kind, target_kind=target_kind))


def test_zeros_of_divergence(triton: Backend) -> None:
    """p = 0 annihilates its term whatever ln q is, NaN apart; its gradient there is the one-sided limit."""
    u = [-1, -INF, INF, NAN, -INF]
    of_p = kl(triton, Kind.LOG_PROBABILITIES, u, Kind.PROBABILITIES, [0, 0, 0, 0, 0.5])
    of_log = kl(triton, Kind.LOG_PROBABILITIES, u, Kind.LOG_PROBABILITIES, [-INF, -INF, -INF, -INF, np.log(0.5)])
    of_q = kl(triton, Kind.PROBABILITIES, [0, 0, 0.5], Kind.PROBABILITIES, [0, 0.5, 0.5])

    for computed in (of_p, of_log):
        assert_relative(computed.losses, [0, 0, 0, NAN, INF], rtol=0)
        assert_relative(computed.input_gradient, [0, 0, 0, 0, -0.5], rtol=1e-7)
    assert_relative(of_p.target_gradient, [-INF, INF, -INF, NAN, INF], rtol=0)
    assert_relative(of_log.target_gradient, [0, 0, 0, NAN, INF], rtol=0)
    assert_relative(of_q.losses, [0, INF, 0], rtol=0)
    assert_relative(of_q.input_gradient, [0, -INF, -1], rtol=0)


def test_divergence_of_near_probabilities(triton: Backend) -> None:
    """p and q that differ in the seventh digit: their logarithms' difference keeps its digits."""
    q = np.float32(0.3)
    p = np.nextafter(q, np.float32(1))
    computed = kl(triton, Kind.PROBABILITIES, [q], Kind.PROBABILITIES, [p])

    assert_relative(computed.losses, [float(p) * np.log1p((float(p) - float(q)) / float(q))], rtol=3e-7)


def test_confident_rows_of_divergence(triton: Backend) -> None:
    """Both sides sure of one class to 1e-9: the gradients at it are as exact as at the others."""
    x, z = np.array([0, -20.5, -21]), np.array([0, -22, -20.25])
    job = rows_job(
        Formula.KL_ROWS, array(x[None, :, None]), target=array(z[None, :, None]), input_kind=Kind.LOGITS,
        target_kind=Kind.LOGITS, target_gradient=True,
    )  # fmt: skip
    computed = alone(triton, job)

    e, f = np.exp(x[1:]), np.exp(z[1:])
    q, p = e / (1 + e.sum()), f / (1 + f.sum())
    ratio = z[1:] - x[1:]
    assert_relative(computed.input_gradient, [p.sum() - q.sum(), *(q - p)], rtol=2e-6)
    assert_relative(computed.target_gradient, [-(p * ratio).sum(), *(p * ratio)], rtol=2e-6)


def test_divergence_of_a_class_that_cannot_be(triton: Backend) -> None:
    """q = 0 at the target's likeliest class: an infinite row, whose other gradients are −∞."""
    job = rows_job(
        Formula.KL_ROWS, array(np.array([[[0.0], [1.0]]])), target=array(np.array([[[1.0], [0.0]]])),
        input_kind=Kind.PROBABILITIES, target_kind=Kind.LOGITS, target_gradient=True,
    )  # fmt: skip
    computed = alone(triton, job)

    assert_relative(computed.losses, [INF], rtol=0)
    assert_relative(computed.target_gradient, [NAN, -INF], rtol=0)


def test_nan_stays_in_its_row_of_divergence(triton: Backend) -> None:
    """A row with a NaN, or of nothing but −∞, is NaN; the row beside it in the same tile is not."""
    x = np.array([[0, NAN, 1], [0, 1, 2], [-INF, -INF, -INF], [1, 2, 0]])
    job = rows_job(
        Formula.KL_ROWS, array(x[:, :, None]), target=array(np.full((4, 3, 1), 1 / 3)), input_kind=Kind.LOGITS,
        target_kind=Kind.PROBABILITIES, target_gradient=True,
    )  # fmt: skip
    computed = alone(triton, job)

    assert computed.losses is not None
    assert computed.input_gradient is not None
    assert computed.target_gradient is not None
    for found in (computed.losses[:, None], computed.input_gradient, computed.target_gradient):
        assert np.isnan(found.reshape(4, -1)).all(axis=1).tolist() == [True, False, True, False]
        assert np.isfinite(found.reshape(4, -1)[[1, 3]]).all()


def test_probabilities_that_are_none(triton: Backend) -> None:
    """q = 0 is +∞ where its class has weight and nothing where it has none; a negative q is NaN."""
    q = array(np.array([[0, 0.5], [0, 0.5], [-0.5, 0.5]])[:, :, None])
    t = array(np.array([[1, 0], [0, 1], [1, 0]])[:, :, None])
    job = rows_job(Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION, q, target=t, input_kind=Kind.PROBABILITIES)
    computed = alone(triton, job)

    assert_relative(computed.losses, [INF, np.log(2), NAN], rtol=1e-7)
    assert_relative(computed.input_gradient, [-INF, 0, 0, -2, 2, 0], rtol=0)


def test_faults_of_counts(triton: Backend) -> None:
    """A class out of range comes before a negative count, that before an empty row."""
    counts = np.ones((3, 4, 2))
    counts[1, 2, 1], counts[2, :, 0] = -1, 0
    y = np.zeros((3, 2))
    shared: dict[str, Any] = {"input_kind": Kind.COUNTS}
    negative = rows_job(Formula.CROSS_ENTROPY_KINDS_INDEX, array(counts), target=indices(y), **shared)
    y[2, 1] = 4
    outside = rows_job(Formula.CROSS_ENTROPY_KINDS_INDEX, array(counts), target=indices(y), **shared)
    empty = rows_job(Formula.KL_ROWS, array(abs(counts)), target=array(np.ones((3, 4, 2))), **shared)

    assert alone(triton, negative).fault == (Fault.NEGATIVE_COUNT, 1 * 8 + 2 * 2 + 1)
    assert alone(triton, outside).fault == (Fault.CLASS_OUT_OF_RANGE, 5)
    assert alone(triton, empty).fault == (Fault.EMPTY_COUNTS, 4)

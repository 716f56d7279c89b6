"""Identities between the losses, and worked examples. Those of the kinds: test_identities_of_kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lossd_server.backends import Backend
from tests.conformance.path import answer

RNG = np.random.default_rng(11)
X = RNG.normal(0, 3, (6, 7))
Y = RNG.integers(0, 7, 6)
ONE_HOT = np.eye(7)[Y]


def test_one_hot_target_is_its_index(numba: Backend) -> None:
    """CrossEntropy with a one-hot distribution equals CrossEntropy with its index, gradient included."""
    for options in ({}, {"label_smoothing": 0.2}, {"base": 2.0}):
        index = answer(numba, "cross_entropy", X, Y, grad=True, **options)
        one_hot = answer(numba, "cross_entropy", X, ONE_HOT, grad=True, **options)

        np.testing.assert_allclose(one_hot.loss, index.loss, rtol=1e-14)
        np.testing.assert_allclose(one_hot.grad, index.grad, rtol=1e-12, atol=1e-16)


def test_cross_entropy_of_itself_is_entropy(numba: Backend) -> None:
    """H(p, p) = H(p), with p = softmax(x)."""
    e = np.exp(X - X.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    h = answer(numba, "entropy", p, reduction="none")

    np.testing.assert_allclose(answer(numba, "cross_entropy", X, p, reduction="none").loss, h.loss, rtol=1e-13)
    np.testing.assert_allclose(answer(numba, "entropy", X, kind="logits", reduction="none").loss, h.loss, rtol=1e-13)


def test_entropy_of_counts_is_that_of_their_shares(numba: Backend) -> None:
    """Counts and counts divided by their sum have one entropy."""
    counts = RNG.integers(0, 9, (5, 4)) + 1.0
    shares = counts / counts.sum(axis=1, keepdims=True)

    np.testing.assert_allclose(
        answer(numba, "entropy", counts, kind="counts").loss, answer(numba, "entropy", shares).loss, rtol=1e-14
    )


def test_bce_with_logits_is_bce_of_the_sigmoid(numba: Backend) -> None:
    """BCEWithLogits(x, t) = BCE(σ(x), t)."""
    t = RNG.uniform(size=X.shape)
    p = 1 / (1 + np.exp(-X))

    for reduction in ("none", "mean", "sum"):
        np.testing.assert_allclose(
            answer(numba, "bce_with_logits", X, t, reduction=reduction).loss,
            answer(numba, "bce", p, t, reduction=reduction).loss,
            rtol=1e-11,
        )


def test_two_classes_are_one_logit(numba: Backend) -> None:
    """CrossEntropy over (0, x) is BCEWithLogits of x."""
    x = X[:, :1]
    y = Y % 2

    np.testing.assert_allclose(
        answer(numba, "cross_entropy", np.concatenate([np.zeros_like(x), x], axis=1), y, reduction="none").loss,
        answer(numba, "bce_with_logits", x[:, 0], y.astype(float), reduction="none").loss,
        rtol=1e-13,
    )


def test_gradients_of_a_row_add_up_to_nothing(numba: Backend) -> None:
    """Softmax losses do not change when a constant is added to a row: its gradient sums to 0."""
    for options in ({}, {"label_smoothing": 0.1}):
        grad = answer(numba, "cross_entropy", X, Y, grad=True, **options).grad

        np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-15)


def test_parts_with_a_normalizer_add_up(numba: Backend) -> None:
    """Two halves, each over the whole's denominator, sum to the whole's mean."""
    weight = RNG.uniform(0.5, 2, 7)
    whole = answer(numba, "cross_entropy", X, Y, weight=weight, grad=True)
    parts = [
        answer(numba, "cross_entropy", X[s], Y[s], weight=weight, grad=True, normalizer=whole.summary.weight_sum)
        for s in (slice(0, 2), slice(2, 6))
    ]

    assert sum(float(part) for part in parts) == pytest.approx(float(whole), rel=1e-15)
    np.testing.assert_allclose(np.concatenate([part.grad for part in parts]), whole.grad, rtol=1e-14)


def test_surprise_of_a_class(numba: Backend) -> None:
    """Probabilities [0.25, 0.35, 0.4], given as logits ln p: class 2 costs 0.9162907."""
    loss = answer(numba, "cross_entropy", np.log([[0.25, 0.35, 0.4]]), np.array([2]))

    assert float(loss) == pytest.approx(0.9162907318741551, rel=1e-15)


def test_cross_entropy_of_counts_in_bits(numba: Backend) -> None:
    """H(P, Q) of counts P = {2, 3, 4}, Q = {4, 4, 1} is 2.05881 bits, given as counts, shares or logarithms."""
    p, q = np.array([[2, 3, 4]]), np.array([[4, 4, 1]])
    worked = -(2 / 9 * math.log2(4 / 9) + 3 / 9 * math.log2(4 / 9) + 4 / 9 * math.log2(1 / 9))
    counts = answer(numba, "cross_entropy", q, p, kind="counts", target_kind="counts", base=2.0)
    as_float64 = answer(numba, "cross_entropy", q * 1.0, p, kind="counts", target_kind="counts", base=2.0)

    assert worked == pytest.approx(2.05881, abs=5e-6)
    assert float(counts) == pytest.approx(worked, rel=3e-7)  # integers alone are computed in float32
    assert float(as_float64) == pytest.approx(worked, rel=1e-14)
    assert float(answer(numba, "cross_entropy", np.log(q / 9), p / 9, base=2.0)) == pytest.approx(worked, rel=1e-14)
    for kind, values in (("probabilities", q / 9), ("log_probabilities", np.log(q / 9))):
        loss = answer(numba, "cross_entropy", values, p / 9, kind=kind, base=2.0)
        assert float(loss) == pytest.approx(worked, rel=1e-14)


def test_fair_coin(numba: Backend) -> None:
    """A fair coin has 1 bit, a fair die log₂ 6, and perplexity e^H is the number of sides."""
    coin = answer(numba, "entropy", np.array([0.5, 0.5]), base=2.0)
    die = answer(numba, "entropy", np.ones(6), kind="counts")

    assert float(coin) == 1.0
    assert math.exp(float(die)) == pytest.approx(6, rel=1e-14)

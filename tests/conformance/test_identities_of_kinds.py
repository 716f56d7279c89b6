"""Identities of kinds, options and activations."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from lossd_server.backends import Backend
from tests.conformance.losses import KINDS
from tests.conformance.path import answer

RNG = np.random.default_rng(12)
X, Z = RNG.normal(0, 2, (6, 5)), RNG.normal(0, 2, (6, 5))
Y = RNG.integers(0, 5, 6)
K, L = RNG.integers(1, 20, (6, 5)).astype(float), RNG.integers(1, 20, (6, 5)).astype(float)
P, Q = K / K.sum(axis=1, keepdims=True), L / L.sum(axis=1, keepdims=True)
# One distribution a row in each kind.
AS_P = {"counts": K, "probabilities": P, "log_probabilities": np.log(P), "logits": np.log(K) + 7}
AS_Q = {"counts": L, "probabilities": Q, "log_probabilities": np.log(Q), "logits": np.log(L) - 3}


@pytest.mark.parametrize("kind, target_kind", list(product(KINDS, KINDS)))
def test_divergence_is_cross_entropy_less_entropy(numba: Backend, kind: str, target_kind: str) -> None:
    """KL(p‖q) = H(p, q) − H(p), whatever p and q are given as."""
    kinds: dict[str, Any] = {"kind": kind, "target_kind": target_kind}
    kl = answer(numba, "kl_divergence", AS_Q[kind], AS_P[target_kind], reduction="batchmean", base=2.0, **kinds)
    cross = answer(numba, "cross_entropy", AS_Q[kind], P, kind=kind, base=2.0)

    expected = float(cross) - float(answer(numba, "entropy", P, base=2.0))
    assert float(kl) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_from_itself_is_nothing(numba: Backend, kind: str) -> None:
    """KL(p‖p) = 0, and so is its gradient by logits and counts."""
    result = answer(
        numba, "kl_divergence", AS_P[kind], AS_P[kind], kind=kind, target_kind=kind, reduction="batchmean", grad=True
    )

    assert float(result) == pytest.approx(0, abs=1e-15)
    if kind in ("logits", "counts"):
        np.testing.assert_allclose(result.grad, 0, atol=1e-16)


@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_of_every_kind(numba: Backend, kind: str) -> None:
    """One distribution has one cross-entropy, by index and by distribution, smoothed and weighted."""
    options: dict[str, Any] = {"weight": RNG.uniform(0.5, 2, 5), "label_smoothing": 0.2, "reduction": "none"}
    for target in (Y, Q):
        by_logits = answer(numba, "cross_entropy", AS_P["logits"], target, **options).loss
        np.testing.assert_allclose(
            answer(numba, "cross_entropy", AS_P[kind], target, kind=kind, **options).loss, by_logits, rtol=1e-13
        )


def test_cross_entropy_is_nll_of_log_softmax(numba: Backend) -> None:
    """CrossEntropy(x, y) = NLL(log_softmax(x), y) = SelfInformation(softmax(x)[y])."""
    weight = RNG.uniform(0.5, 2, 5)
    whole = answer(numba, "cross_entropy", X, Y, weight=weight)
    logarithms = answer(numba, "log_softmax", X).loss
    rows = answer(numba, "cross_entropy", X, Y, reduction="none").loss

    assert float(answer(numba, "nll", logarithms, Y, weight=weight)) == pytest.approx(float(whole), rel=1e-14)
    chosen = answer(numba, "softmax", X).loss[np.arange(6), Y]
    np.testing.assert_allclose(answer(numba, "self_information", chosen).loss, rows, rtol=1e-13)


def test_counts_targets_are_their_shares(numba: Backend) -> None:
    """Targets of counts, integers too, are divided by their rows' sums."""
    for loss in ("cross_entropy", "kl_divergence"):
        kinds = {"kind": "logits", "reduction": "mean"}
        shares = answer(numba, loss, X, P, grad=True, **kinds)
        for counts in (K, K.astype(np.int64), K.astype(np.uint8)):
            found = answer(numba, loss, X, counts, target_kind="counts", grad=True, **kinds)
            np.testing.assert_allclose(found.loss, shares.loss, rtol=1e-14)
            np.testing.assert_allclose(found.grad, shares.grad, rtol=1e-12, atol=1e-17)


def test_activations_of_each_other(numba: Backend) -> None:
    """log_softmax = ln softmax; sigmoid(x) = softmax(0, x)[1]; log_sigmoid = ln sigmoid; a dim is a transposition."""
    x = X[:, :1]
    pair = np.concatenate([np.zeros_like(x), x], axis=1)
    p = answer(numba, "softmax", X).loss

    np.testing.assert_allclose(np.exp(answer(numba, "log_softmax", X).loss), p, rtol=1e-14)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    sigmoid = answer(numba, "sigmoid", x).loss
    np.testing.assert_allclose(answer(numba, "softmax", pair).loss[:, 1:], sigmoid, rtol=1e-15)
    np.testing.assert_allclose(np.exp(answer(numba, "log_sigmoid", x).loss), sigmoid, rtol=1e-15)
    np.testing.assert_array_equal(answer(numba, "softmax", np.ascontiguousarray(X.T), dim=0).loss.T, p)
    np.testing.assert_array_equal(answer(numba, "softmax", np.ascontiguousarray(X.T), dim=-2).loss.T, p)


def test_activation_gradients_chain(numba: Backend) -> None:
    """A loss's gradient through an activation's is the fused loss's: log_softmax then NLL is CrossEntropy."""
    logarithms = answer(numba, "log_softmax", X).loss
    upstream = answer(numba, "nll", logarithms, Y, grad=True).grad
    chained = answer(numba, "log_softmax", X, grad=True, grad_output=upstream).grad
    p = answer(numba, "sigmoid", X).loss
    t = np.round(Q)
    by_bce = answer(numba, "sigmoid", X, grad=True, grad_output=answer(numba, "bce", p, t, grad=True).grad).grad

    np.testing.assert_allclose(chained, answer(numba, "cross_entropy", X, Y, grad=True).grad, rtol=1e-12, atol=1e-17)
    np.testing.assert_allclose(by_bce, answer(numba, "bce_with_logits", X, t, grad=True).grad, rtol=1e-11, atol=1e-17)


def test_weight_gradient_times_weight_is_the_loss(numba: Backend) -> None:
    """The loss is linear in class weights: Σ w·dw is the loss itself."""
    weight = RNG.uniform(0.5, 2, 5)
    for kind, reduction in product(KINDS, ("mean", "sum")):
        result = answer(
            numba, "cross_entropy", AS_P[kind], Q, kind=kind, weight=weight, reduction=reduction, grad="weight"
        )
        assert float(result.grads["weight"] @ weight) == pytest.approx(float(result), rel=1e-14)


def test_row_weights(numba: Backend) -> None:
    """Weights of 0 and 1 leave rows out as ignore_index does; equal ones change no mean."""
    r = np.array([1.0, 0, 1, 1, 0, 1])
    weighted = answer(numba, "cross_entropy", X, Y, row_weight=r, grad=True)
    ignored = answer(numba, "cross_entropy", X, np.where(r == 0, -100, Y), grad=True)

    assert float(weighted) == pytest.approx(float(ignored), rel=1e-15)
    np.testing.assert_allclose(weighted.grad, ignored.grad, rtol=1e-14, atol=1e-18)
    for method, tensors in (("cross_entropy", (X, Y)), ("cross_entropy", (X, Q)), ("entropy", (P,))):
        plain = answer(numba, method, *tensors)
        assert float(answer(numba, method, *tensors, row_weight=np.full(6, 3.0))) == pytest.approx(
            float(plain), rel=1e-14
        )


def test_by_products(numba: Backend) -> None:
    """loss = lse − x[y]; entropy is Entropy's; z-loss adds κ·lse²; a cap is one of the logits given before."""
    kappa, k = 0.25, 3.0
    plain = answer(numba, "cross_entropy", X, Y, reduction="none", outputs=("lse", "entropy", "argmax", "correct"))
    lse = plain.outputs["lse"]

    np.testing.assert_allclose(lse - X[np.arange(6), Y], plain.loss, rtol=1e-13)
    h = answer(numba, "entropy", X, kind="logits", reduction="none").loss
    np.testing.assert_allclose(plain.outputs["entropy"], h, rtol=1e-14)
    np.testing.assert_array_equal(plain.outputs["argmax"], X.argmax(axis=1))
    np.testing.assert_array_equal(plain.outputs["correct"], X.argmax(axis=1) == Y)
    penalised = answer(numba, "cross_entropy", X, Y, reduction="none", z_loss=kappa).loss
    np.testing.assert_allclose(penalised - plain.loss, kappa * lse**2, rtol=1e-13)
    capped = answer(numba, "cross_entropy", X, Y, softcap=k).loss
    before = answer(numba, "cross_entropy", k * np.tanh(X / k), Y).loss
    np.testing.assert_allclose(capped, before, rtol=1e-13)

"""The other kinds, activations and by-products where the usual formulas lose every digit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lossd_server.backends import Backend
from tests.conformance.agreement import reference
from tests.conformance.cases import Asked
from tests.conformance.path import answer
from tests.conformance.test_exactness import INFINITE, NOT_A_NUMBER, assert_entries, f32, gaps
from tests.oracle.accepted import assert_each

GAPS = f32([[gap, -gap] for gap in range(5, 41)])


def one_hot(x: Any, c: int = 0) -> Any:
    t = np.zeros_like(x)
    t[:, c] = 1
    return t


def assert_activation(backend: Backend, method: str, x: Any, **options: Any) -> None:
    result, truth = answer(backend, method, x, **options), reference(Asked(method, (x,), options))
    assert_each(result.loss, truth.loss, what=method)
    for name, gradient in result.grads.items():
        assert_each(gradient, truth.grads[name], what=f"{method}'s gradient")


@pytest.mark.parametrize("classes", [2, 3, 17])
def test_divergence_from_confident_logits(backend: Backend, classes: int) -> None:
    """KLDivergence of a one-hot target from logits at gaps of 5 to 40 is the logits' own −log p, to the last digits."""
    x = gaps(classes)
    with np.errstate(divide="ignore"):
        logarithms = np.log(one_hot(x))

    assert_entries(backend, "kl_divergence", x, one_hot(x), kind="logits", grad=True)
    assert_entries(backend, "kl_divergence", x, one_hot(x, classes - 1), kind="logits", grad=True)
    assert_entries(backend, "kl_divergence", x, logarithms, kind="logits", log_target=True, grad=True)


def test_divergence_of_near_distributions(backend: Backend) -> None:
    """Targets next to the input, whose logarithms cancel, keep their digits: ln p − ln q is taken of the ratio."""
    p = f32([[0.2, 0.3, 0.5]])
    q = np.nextafter(p, f32(0)) * f32([[1, 1 + 1e-6, 1 - 1e-5]])
    u = np.log(p)

    assert_entries(backend, "kl_divergence", q, p, kind="probabilities")
    assert_entries(backend, "kl_divergence", u * f32(1 + 1e-6), u, log_target=True)
    assert np.all(answer(backend, "kl_divergence", p, p, kind="probabilities", reduction="none").loss == 0)
    assert np.all(answer(backend, "kl_divergence", u, u, log_target=True, reduction="none").loss == 0)


def test_zeros_of_divergence(backend: Backend) -> None:
    """p = 0 costs nothing whatever q is; q = 0 under p > 0 costs +∞; the gradient at p = 0 is its one-sided limit."""
    p, q = f32([0, 0, 0.5, 1]), f32([0, 0.5, 0, 1])
    with np.errstate(divide="ignore"):
        u, v = np.log(q), np.log(p)
    both = ("input", "target")

    assert_entries(backend, "kl_divergence", u, p, grad=both)
    assert_entries(backend, "kl_divergence", q, p, kind="probabilities", grad=both)
    assert_entries(backend, "kl_divergence", u, v, log_target=True, grad=both)
    assert_entries(backend, "kl_divergence", q, v, kind="probabilities", log_target=True, grad=both)
    by_p = answer(backend, "kl_divergence", u, p, reduction="sum", grad="target").grads["target"]
    assert by_p.tolist()[:2] == [INFINITE, -INFINITE]


def test_zeros_of_divergence_by_rows(backend: Backend) -> None:
    """The same of counts and of logits of −∞."""
    k, p = f32([[0, 4, 5]]), f32([[0, 0.5, 0.5]])
    x = f32([[-INFINITE, 0, 2]])

    assert_entries(backend, "kl_divergence", k, p, kind="counts", grad=("input",))
    assert_entries(backend, "kl_divergence", x, p, kind="logits", grad=("input",))
    assert_entries(backend, "kl_divergence", k, f32([[0, 1, 7]]), kind="counts", target_kind="counts", grad=True)
    assert_entries(backend, "kl_divergence", np.zeros_like(x), x, kind="logits", target_kind="logits", grad=True)
    result = answer(
        backend, "kl_divergence", k, f32([[1, 1, 1]]), kind="counts", target_kind="counts", reduction="none"
    )
    assert result.loss[0, 0] == INFINITE


def test_zeros_of_cross_entropy_kinds(backend: Backend) -> None:
    """A probability of 0 without target weight adds nothing; with it the loss is +∞; below 0 it is NaN."""
    q, t = f32([[0, 0.25, 0.75]]), f32([[0, 0.5, 0.5]])
    with np.errstate(divide="ignore"):
        u = np.log(q)
    for kind, values in (("probabilities", q), ("log_probabilities", u), ("counts", q * 4)):
        assert_entries(backend, "cross_entropy", values, t, kind=kind, grad=("input",))
        assert_entries(backend, "cross_entropy", values, np.array([1]), kind=kind, grad=True)
        at_zero = answer(backend, "cross_entropy", values, np.array([0]), kind=kind, reduction="none")
        assert at_zero.loss == INFINITE
    negative = answer(backend, "cross_entropy", f32([[-0.5, 1.5]]), f32([[0.5, 0.5]]), kind="probabilities")
    assert np.isnan(negative.loss)


def test_weight_gradient_of_impossible_classes(backend: Backend) -> None:
    """A target of exactly 0 at a −∞ logit adds nothing to the class weight's gradient."""
    x, t, w = f32([[0, -INFINITE, 1], [0, 1, 2]]), f32([[0.5, 0, 0.5], [0.25, 0.5, 0.25]]), f32([1, 2, 0])

    assert_entries(backend, "cross_entropy", x, t, weight=w, grad=("input", "weight"))


@pytest.mark.parametrize("classes", [2, 17])
def test_confident_activations(backend: Backend, classes: int) -> None:
    """log_softmax and softmax keep their digits at gaps of 5 to 40, gradients of one class's output too."""
    x = gaps(classes)

    for method in ("log_softmax", "softmax"):
        assert_activation(backend, method, x)
        assert_activation(backend, method, x, grad=True, grad_output=one_hot(x))
    assert_activation(backend, "sigmoid", GAPS, grad=True)
    assert_activation(backend, "log_sigmoid", GAPS, grad=True)


@pytest.mark.parametrize("offset", [1e3, -1e5, 1e7, -1e7])
def test_offsets_of_activations_and_divergence(backend: Backend, offset: float) -> None:
    """A constant added to a row costs no digit."""
    x = f32([[0, 1, 2, 9], [3, 3, 3, 3], [12, 0, 1, 0]])
    t = f32([[0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0]])

    assert_activation(backend, "softmax", x + f32(offset))
    assert_activation(backend, "log_softmax", x + f32(offset))
    assert_entries(backend, "kl_divergence", x[::2] + f32(offset), t[::2], kind="logits", grad=True)


def test_infinite_activations(backend: Backend) -> None:
    """softmax of −∞ is 0; sigmoid of ±∞ is 1 and 0, its gradient 0; NaN stays in its element."""
    x = f32([INFINITE, -INFINITE, 0, NOT_A_NUMBER])

    assert_activation(backend, "softmax", f32([[0, -INFINITE, 1]]), grad=True, grad_output=f32([[1, 2, 3]]))
    assert_activation(backend, "sigmoid", x, grad=True)
    assert_activation(backend, "log_sigmoid", x, grad=True)


def test_nan_stays_in_its_element(backend: Backend) -> None:
    """One NaN of an elementwise loss is one NaN of the result; of a normalised row, its row's."""
    u, p = f32([[-1, NOT_A_NUMBER], [-1, -2]]), f32([[0.5, 0.5], [0, 1]])
    element = answer(backend, "kl_divergence", u, p, reduction="none")
    row = answer(backend, "kl_divergence", u, p, kind="logits", reduction="none", grad=True)
    h = answer(backend, "self_information", f32([NOT_A_NUMBER, -1, 0, 1]), grad=True)

    assert np.isnan(element.loss).tolist() == [[False, True], [False, False]]
    assert np.isnan(row.loss).tolist() == [[True, True], [False, False]]
    assert np.isnan(row.grad).tolist() == [[True, True], [False, False]]
    np.testing.assert_array_equal(h.loss, f32([NOT_A_NUMBER, NOT_A_NUMBER, INFINITE, 0]))


def test_nll_reads_its_class_alone(backend: Backend) -> None:
    """Infinite and ignored entries change nothing; a weight of 0 annihilates an infinite loss."""
    u = f32([[-INFINITE, -1], [NOT_A_NUMBER, NOT_A_NUMBER], [-2, -INFINITE]])
    y = np.array([1, -100, 1])

    assert_entries(backend, "nll", u, y, grad=True)
    assert_entries(backend, "nll", u, y, weight=f32([1, 0]), grad=True)
    mean = answer(backend, "nll", u[:2], y[:2], grad=True)
    assert mean.loss == 1
    assert np.isnan(answer(backend, "nll", u[1:2], y[1:2]).loss)
    assert answer(backend, "nll", u[1:2], y[1:2], empty_mean="zero").loss == 0


@pytest.mark.parametrize("z_loss, softcap", [(0.5, None), (0.0, 30.0), (0.25, 50.0)])
def test_confident_rows_with_z_loss_and_softcap(backend: Backend, z_loss: float, softcap: float | None) -> None:
    """Penalised and capped logits keep the digits of confident rows; a capped logit is one rounding more."""
    x, y = gaps(3)[:12], np.zeros(12, np.int64)
    options: dict[str, Any] = {"z_loss": z_loss, "softcap": softcap, "relative": 3e-6 if softcap else 1e-6}

    assert_entries(backend, "cross_entropy", x, y, grad=True, **options)


def test_softcap_of_extremes(backend: Backend) -> None:
    """Logits of ±∞ become ±k; those far beyond k have no gradient."""
    x = f32([[INFINITE, -INFINITE, 0], [1e4, -1e4, 0]])
    result = answer(backend, "cross_entropy", x, np.array([0, 1]), softcap=5.0, reduction="none", grad=True)
    expected = math.log1p(math.exp(-10) + math.exp(-5))

    np.testing.assert_allclose(result.loss, [expected, 10 + expected], rtol=1e-6)
    assert np.all(result.grad[:, :2] == 0)


def test_outputs_at_the_edges(backend: Backend) -> None:
    """argmax is the first of equals and −1 for NaN; an ignored row is not correct; confident entropies keep digits."""
    x = f32([[1, 3, 3], [NOT_A_NUMBER, 0, 0], [5, 0, 0], [30, 0, 0]])
    y = np.array([1, 0, -100, 0])
    found = answer(backend, "cross_entropy", x, y, outputs=("lse", "entropy", "argmax", "correct"))

    assert found.outputs["argmax"].tolist() == [1, -1, 0, 0]
    assert found.outputs["correct"].tolist() == [True, False, False, True]
    assert np.isnan(found.outputs["lse"]).tolist() == [False, True, False, False]
    assert found.outputs["entropy"][3] == pytest.approx(math.exp(-30) * 2 * 31, rel=1e-6)
    assert found.outputs["lse"][2] == pytest.approx(5 + math.log1p(2 * math.exp(-5)), rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)])
def test_empty_inputs(backend: Backend, shape: tuple[int, ...]) -> None:
    """Without elements: mean NaN (0 where asked), sum 0, none and gradients empty, activations empty."""
    x, y = np.zeros(shape, np.float32), np.zeros((shape[0], *shape[2:]), np.int64)
    asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("nll", (x, y), {}),
        ("kl_divergence", (x, x), {}),
        ("kl_divergence", (x, x), {"kind": "logits", "target_kind": "counts"}),
        ("cross_entropy", (x, x), {"kind": "probabilities", "target_kind": "counts"}),
        ("self_information", (x,), {}),
    ]
    for method, tensors, options in asked:
        mean = answer(backend, method, *tensors, reduction="mean", grad=True, **options)
        assert np.isnan(mean.loss)
        assert mean.grad.shape == shape
        assert answer(backend, method, *tensors, reduction="sum", **options).loss == 0
        assert answer(backend, method, *tensors, reduction="mean", empty_mean="zero", **options).loss == 0
    for method in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
        assert answer(backend, method, x, grad=True).loss.shape == shape


def test_batchmean(backend: Backend) -> None:
    """batchmean divides by dimension 0, by 1 for a scalar; by nothing for an empty one."""
    u, p = f32([-1, -2, -4, -3]), f32([0.5, 0.25, 0.125, 0.125])
    whole = float(answer(backend, "kl_divergence", u, p, reduction="sum"))

    assert float(answer(backend, "kl_divergence", u, p, reduction="batchmean")) == pytest.approx(whole / 4, rel=1e-7)
    two = answer(backend, "kl_divergence", u.reshape(2, 2), p.reshape(2, 2), reduction="batchmean")
    assert float(two) == pytest.approx(whole / 2, rel=1e-7)
    scalar = answer(backend, "kl_divergence", f32(-1), f32(0.5), reduction="batchmean")
    assert float(scalar) == pytest.approx(0.5 * (math.log(0.5) + 1), rel=1e-6)
    assert np.isnan(answer(backend, "kl_divergence", u[:0], p[:0], reduction="batchmean").loss)

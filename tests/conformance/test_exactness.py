"""Where the usual formulas lose every digit: entry by entry to 1e-6 in float32, or exactly."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd_server.backends import Backend
from tests.conformance.agreement import reference
from tests.conformance.cases import Asked
from tests.conformance.path import answer
from tests.oracle.accepted import assert_each
from tests.oracle.exact import decode, mp

INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)


def assert_entries(backend: Backend, method: str, *tensors: Any, relative: float = 1e-6, **options: Any) -> None:
    """Losses and gradients agree with the oracle entry by entry."""
    asked = Asked(method, tensors, {"reduction": "none"} | options)
    result, truth = answer(backend, method, *tensors, **asked.options), reference(asked)

    assert_each(result.loss, truth.loss, relative, what="loss")
    for name, gradient in result.grads.items():
        assert_each(gradient, truth.grads[name], relative, what=name)


def gaps(classes: int) -> npt.NDArray[np.float32]:
    """Rows whose first logit is ahead of (or behind) the rest by 5 to 40."""
    gap = np.concatenate([np.arange(5, 41), -np.arange(5, 41)])
    rows = np.zeros((gap.size, classes), np.float32)
    rows[:, 0] = gap
    return rows


@pytest.mark.parametrize("classes", [2, 3, 17])
def test_confident_rows_by_index(backend: Backend, classes: int) -> None:
    """Cross-entropy at gaps of 5 to 40, for the leading class and for another, keeps its digits."""
    x = gaps(classes)

    assert_entries(backend, "cross_entropy", x, np.zeros(len(x), np.int64), grad=True)
    assert_entries(backend, "cross_entropy", x, np.full(len(x), classes - 1), grad=True)


@pytest.mark.parametrize("classes", [2, 17])
def test_confident_rows_by_distribution(backend: Backend, classes: int) -> None:
    """A one-hot target, given as a distribution, is as exact as its index."""
    x = gaps(classes)
    t = np.zeros_like(x)
    t[:, 0] = 1

    assert_entries(backend, "cross_entropy", x, t, grad=("input", "target"))


@pytest.mark.parametrize("classes", [2, 17])
def test_confident_rows_of_entropy(backend: Backend, classes: int) -> None:
    """The entropy of nearly one-hot logits keeps its digits."""
    assert_entries(backend, "entropy", gaps(classes), kind="logits", grad=True)


def test_confident_elements(backend: Backend) -> None:
    """BCEWithLogits is exact on the right side at ±5 … ±40 for both targets, where PyTorch's is 0 from 17 on."""
    x = f32([[gap, -gap] for gap in range(5, 41)])

    for t in (0.0, 1.0):
        assert_entries(backend, "bce_with_logits", x, np.full_like(x, t), grad=("input", "target"))


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e3, 1e5, 1e7, -1e7])
def test_offsets_cancel(backend: Backend, offset: float) -> None:
    """A constant added to a row costs no digit, up to 1e7 (integer logits, so that the sum is stored exactly)."""
    x = f32([[0, 1, 2, 9], [3, 3, 3, 3], [12, 0, 1, 0]]) + np.float32(offset)

    assert_entries(backend, "cross_entropy", x, np.array([3, 0, 0]), grad=True)
    assert_entries(backend, "entropy", x, kind="logits", grad=True)


OFFSETS = [0, 1e3, 65530, 65545, 1e6, 2.0**21, 1e8, 3e18, 3e38]


@pytest.mark.parametrize("classes", [7, 600])
@pytest.mark.parametrize("offset", [*OFFSETS, *(-offset for offset in OFFSETS[1:])])
def test_rows_of_any_offset(backend: Backend, offset: float, classes: int) -> None:
    """Rows of few and of many classes keep their digits wherever their maximum lies: of spans from 0.1 to 80, with −∞
    and with huge logits of either sign among small ones.
    """
    rng = np.random.default_rng(int(abs(offset)) % 1000)
    below = rng.uniform(0, 1, (6, classes)) * np.array([[0.1], [2], [17], [80], [30], [30]])
    below[:, 2] = 0
    x = f32(offset - below)
    x[3, 4:6] = -INFINITE
    x[4, [0, 3]] = -3e38, -1e6 - abs(offset)
    x[5, [0, 3]] = 3e38, 1e6 + min(abs(offset), 1e38)
    y = np.array([2, 1, 3, 2, 6, 6])

    assert_entries(backend, "cross_entropy", x, y, grad=True)
    assert_entries(backend, "entropy", x, kind="logits")


def test_probabilities_at_the_ends(backend: Backend) -> None:
    """BCE at 0 and 1 has PyTorch's clamps, and a finite target gradient."""
    p = f32([0, 0, 0, 1, 1, 1, 1e-30, 1 - 2**-24, 0.5])
    t = f32([0, 1, 0.5, 0, 1, 0.5, 1, 0, 0.5])

    assert_entries(backend, "bce", p, t, grad=("input", "target"))


def test_minus_infinity_is_probability_zero(backend: Backend) -> None:
    """A −∞ logit without target weight adds nothing and has gradient 0; at the target the loss is +∞."""
    x = f32([[0, -INFINITE, 1], [-INFINITE, -INFINITE, 2]])
    by_index = answer(backend, "cross_entropy", x, np.array([0, 2]), reduction="none", grad=True)
    at_target = answer(backend, "cross_entropy", x, np.array([1, 0]), reduction="none", grad=True)

    assert_entries(backend, "cross_entropy", x, np.array([0, 2]), grad=True)
    assert by_index.grad[0, 1] == 0
    assert by_index.loss[1] == 0
    assert np.all(by_index.grad[1] == 0)
    assert np.all(at_target.loss == INFINITE)
    assert np.isfinite(at_target.grad).all()


def test_zeros_annihilate(backend: Backend) -> None:
    """A target, weight or smoothing of exactly 0 removes its term, though log p is −∞."""
    x, t = f32([[0, -INFINITE, 1]]), f32([[0.5, 0, 0.5]])
    weight = f32([1, 0, 1])

    assert_entries(backend, "cross_entropy", x, t, grad=("input",))
    assert_entries(backend, "cross_entropy", x, np.array([1]), weight=weight, grad=True)
    assert_entries(backend, "cross_entropy", x, np.array([2]), weight=weight, label_smoothing=0.5, grad=True)
    assert_entries(backend, "cross_entropy", x, t, weight=weight, label_smoothing=0.5, grad=("input", "target"))
    assert_entries(backend, "entropy", x, kind="logits", grad=True)
    assert_entries(backend, "entropy", f32([[0, 1, 0], [0.5, 0, 0.5]]), grad=True)
    assert_entries(backend, "entropy", f32([[0, 7, 0], [3, 0, 5]]), kind="counts", grad=True)


def test_infinite_logits_of_elements(backend: Backend) -> None:
    """BCEWithLogits at ±∞ is 0 on the right side, +∞ on the wrong one, NaN for NaN."""
    x = f32([INFINITE, INFINITE, -INFINITE, -INFINITE, NOT_A_NUMBER])
    t = f32([1, 0, 1, 0, 0])
    result = answer(backend, "bce_with_logits", x, t, reduction="none", grad=True)

    np.testing.assert_array_equal(result.loss, f32([0, INFINITE, INFINITE, 0, NOT_A_NUMBER]))
    np.testing.assert_array_equal(result.grad, f32([0, 1, -1, 0, NOT_A_NUMBER]))
    assert_entries(backend, "bce_with_logits", x, t, weight=f32(0), grad=("input", "target"))
    assert_entries(backend, "bce_with_logits", x, t, pos_weight=f32(0), grad=("input", "target"))


@pytest.mark.parametrize("bad", [NOT_A_NUMBER, INFINITE])
def test_nan_stays_in_its_row(backend: Backend, bad: float) -> None:
    """A row with NaN or +∞ is NaN, loss and gradient; its neighbours are untouched."""
    x = f32(np.random.default_rng(1).normal(size=(3, 20)))
    clean = answer(backend, "cross_entropy", x, np.array([1, 2, 3]), reduction="none", grad=True)
    x[1, 17] = bad
    result = answer(backend, "cross_entropy", x, np.array([1, 2, 3]), reduction="none", grad=True)
    h = answer(backend, "entropy", x, kind="logits", reduction="none", grad=True)

    assert np.isnan(result.loss[1])
    assert np.isnan(result.grad[1]).all()
    np.testing.assert_array_equal(result.loss[[0, 2]], clean.loss[[0, 2]])
    np.testing.assert_array_equal(result.grad[[0, 2]], clean.grad[[0, 2]])
    assert np.isnan(h.loss).tolist() == [False, True, False]
    assert np.isnan(h.grad).all(axis=1).tolist() == [False, True, False]


def test_a_row_of_minus_infinity_is_nan(backend: Backend) -> None:
    """Nothing but −∞ is no distribution."""
    x = np.full((1, 3), -INFINITE, np.float32)
    result = answer(backend, "cross_entropy", x, np.array([0]), grad=True)

    assert np.isnan(result.loss)
    assert np.isnan(result.grad).all()


def test_ignored_rows_are_zero_whatever_they_hold(backend: Backend) -> None:
    """An ignored row of NaN has loss 0 and gradient 0, and leaves the mean alone."""
    x = f32([[NOT_A_NUMBER, 1], [0, 0], [INFINITE, -INFINITE]])
    result = answer(backend, "cross_entropy", x, np.array([-100, 0, -100]), reduction="mean", grad=True)

    assert float(result) == pytest.approx(math.log(2), rel=1e-6)
    assert np.all(result.grad[[0, 2]] == 0)
    assert result.summary.count == 1


def test_mean_over_nothing(backend: Backend) -> None:
    """No kept rows: NaN with gradient 0, or 0 where asked. All weights zero: NaN and NaN."""
    x, y = f32([[1, 2], [3, 4]]), np.array([-100, -100])
    nothing = answer(backend, "cross_entropy", x, y, grad=True)
    zero = answer(backend, "cross_entropy", x, y, grad=True, empty_mean="zero")
    weightless = answer(backend, "cross_entropy", x, np.array([0, 1]), weight=f32([0, 0]), grad=True)

    assert np.isnan(nothing.loss)
    assert np.all(nothing.grad == 0)
    assert zero.loss == 0
    assert np.all(zero.grad == 0)
    assert np.isnan(weightless.loss)
    assert np.isnan(weightless.grad).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)])
def test_empty_input(backend: Backend, shape: tuple[int, ...]) -> None:
    """Without rows: mean NaN, sum 0, none empty, gradients empty."""
    x, rows = np.zeros(shape, np.float32), (shape[0], *shape[2:])
    y = np.zeros(rows, np.int64)

    for method, tensors in (("cross_entropy", (x, y)), ("entropy", (x,)), ("bce", (x, x)), ("bce_with_logits", (x, x))):
        mean = answer(backend, method, *tensors, grad=True)
        none = answer(backend, method, *tensors, reduction="none")
        assert np.isnan(mean.loss)
        assert mean.grad.shape == shape
        assert answer(backend, method, *tensors, reduction="sum").loss == 0
        assert answer(backend, method, *tensors, empty_mean="zero").loss == 0
        assert none.loss.shape == (shape if method.startswith("bce") else rows)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_uniform_rows(backend: Backend, classes: int) -> None:
    """All-equal logits, at any level, give ln C."""
    for level in (0.0, -1e4, 1e7):
        x = np.full((2, classes), level, np.float32)
        result = answer(backend, "entropy", x, kind="logits", reduction="none")
        loss = answer(backend, "cross_entropy", x, np.array([0, classes - 1]), reduction="none")

        np.testing.assert_allclose(result.loss, math.log(classes), rtol=3e-7)
        np.testing.assert_allclose(loss.loss, math.log(classes), rtol=3e-7)


def test_one_hot_entropy_is_exactly_zero(backend: Backend) -> None:
    """One-hot probabilities, counts and logits (−∞ elsewhere) have entropy 0, not nearly 0."""
    p = f32([[0, 1, 0], [1, 0, 0]])
    with np.errstate(divide="ignore"):
        logits = np.log(p)

    assert np.all(answer(backend, "entropy", p, reduction="none").loss == 0)
    assert np.all(answer(backend, "entropy", p * 7, kind="counts", reduction="none").loss == 0)
    assert np.all(answer(backend, "entropy", logits, kind="logits", reduction="none").loss == 0)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_16_bit_gradients_are_rounded_once(backend: Backend, dtype: Any) -> None:
    """A 16-bit gradient is the true one rounded to nearest, entry by entry: within 0.51 ulp of its own."""
    x = np.random.default_rng(2).normal(0, 2, (5, 33)).astype(dtype)
    asked = Asked("cross_entropy", (x, np.arange(5)), {"reduction": "none", "grad": True})
    result, truth = answer(backend, asked.method, *asked.tensors, **asked.options), reference(asked).grads["input"]

    info = ml_dtypes.finfo(dtype)
    for actual, expected in zip(decode(result.grad).reshape(-1), truth.reshape(-1), strict=True):
        exponent = max(math.frexp(float(expected))[1] - 1, math.frexp(float(info.tiny))[1] - 1)
        assert abs(actual - expected) <= 0.51 * mp.ldexp(1, exponent - int(info.nmant))


def test_extremes(backend: Backend) -> None:
    """Logits of ±1e4, ±3e38 and NaN in one request are what the closed forms say."""
    x = f32([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3e38, -3e38, 0], [NOT_A_NUMBER, 0, 0]])

    assert_entries(backend, "cross_entropy", x, np.array([1, 2, 0, 1]), grad=True)
    assert_entries(backend, "cross_entropy", x[:2], f32([[0, 0, 1], [1, 1, 1]]), grad=("input", "target"))

"""Options and tensors that are 0, infinite, huge or tiny: the rule for zeros, and no NaN where it gives a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd_server.backends import Backend
from lossd_server.errors import InvalidRequest
from tests.conformance.agreement import asked_gradients, assert_agrees, reference
from tests.conformance.cases import Asked
from tests.conformance.extremes import INF, LOSSES, extreme
from tests.conformance.path import answer
from tests.conformance.values import DTYPES, EIGHT_BITS
from tests.oracle.exact import mp
from tests.oracle.reducing import Reference

# Draws of each loss. Rows of few classes lie in lanes on a CPU, of many in blocks.
DRAWS = {"numba": 60, "triton": 25}
FLOATS = DTYPES | EIGHT_BITS
BEYOND = (1e39, 1e300, 1e-50, 1e-320)


def say_nothing_of_differences(truth: Reference, grads: dict[str, Any]) -> Reference:
    """A difference of infinities says nothing: a gradient that is NaN for it may be 0 or infinite, its limits."""
    for name, numbers in truth.grads.items():
        for at in np.ndindex(numbers.shape):
            if name in grads and mp.isnan(numbers[at]) and (grads[name][at] == 0 or np.isinf(grads[name][at])):
                numbers[at] = mp.mpf(float(grads[name][at]))
    return truth


def assert_extreme(backend: Backend, asked: Asked) -> None:
    result = answer(backend, asked.method, *asked.tensors, **asked.options)
    truth = say_nothing_of_differences(reference(asked), result.grads)

    assert set(result.grads) == asked_gradients(asked)
    assert_agrees(result, asked, size=1.0, truth=truth)


@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_factors(backend: Backend, loss: str) -> None:
    """Weights, targets, upstream gradients and shares that are 0 or infinite: the oracle's answer."""
    rng = np.random.default_rng(LOSSES.index(loss))
    for draw in range(DRAWS[backend.name]):
        asked = extreme(loss, rng, int(rng.choice([2, 3, 5])))
        try:
            assert_extreme(backend, asked)
        except AssertionError as error:
            error.add_note(f"draw {draw}: {asked}")
            raise


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy of kinds", "entropy", "kl_divergence"])
def test_extreme_factors_of_many_classes(numba: Backend, loss: str) -> None:
    """The same of rows that are computed in blocks."""
    rng = np.random.default_rng(LOSSES.index(loss))
    for draw in range(8):
        asked = extreme(loss, rng, 600)
        try:
            assert_extreme(numba, asked)
        except AssertionError as error:
            error.add_note(f"draw {draw}: {asked.options}")
            raise


@pytest.mark.parametrize("dtype", FLOATS)
def test_annihilated_terms(backend: Backend, dtype: str) -> None:
    """In every dtype: no target of a class with an infinite weight, in a row and in an element, is no term."""
    x, t = np.zeros((1, 2)).astype(FLOATS[dtype]), np.array([[0.0, 1.0]]).astype(FLOATS[dtype])
    weight = np.array([INF, 1.0], np.float32)
    rows = answer(backend, "cross_entropy", x, t, weight=weight, reduction="sum", grad=True)
    elements = answer(backend, "bce_with_logits", x, 1 - t, pos_weight=1 / weight, weight=t, reduction="sum", grad=True)
    positive = answer(
        backend, "bce_with_logits", x, t, pos_weight=np.array([INF, 1], np.float32), reduction="sum", grad=True
    )

    np.testing.assert_allclose(float(rows), np.log(2), 1e-6)
    np.testing.assert_array_equal(np.asarray(rows.grad, np.float32), [[0.5, -0.5]])
    np.testing.assert_allclose(float(elements), np.log(2), 1e-6)
    np.testing.assert_allclose(float(positive), 2 * np.log(2), 1e-6)
    np.testing.assert_array_equal(np.asarray(positive.grad, np.float32), [[0.5, -0.5]])


@pytest.mark.parametrize("option", ["softcap", "z_loss", "label_smoothing", "normalizer", "base"])
@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_options_beyond_float32(backend: Backend, option: str, value: float, dtype: str) -> None:
    """An option that float32 does not hold is refused in a sentence that names it, or its answer is right."""
    x = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]).astype(FLOATS[dtype])
    asked = Asked("cross_entropy", (x, np.array([0, 2])), {option: value, "grad": True})
    try:
        result = answer(backend, asked.method, *asked.tensors, **asked.options)
    except (InvalidRequest, ValueError) as refused:
        assert option in str(refused)
        assert str(value) in str(refused)
        return

    truth = say_nothing_of_differences(reference(asked), result.grads)
    assert_agrees(result, asked, size=1.0, truth=truth)


@pytest.mark.parametrize("softcap", [1e10, 1e30, 3e38])
def test_large_softcap_is_none(backend: Backend, softcap: float) -> None:
    """A cap far above the logits leaves them as they are, gradients too."""
    x = np.array([[0.1, -2.0, 3e-5], [0.0, 30.0, -INF]], np.float32)
    y = np.array([0, 1])
    capped = answer(backend, "cross_entropy", x, y, softcap=softcap, reduction="none", grad=True)
    free = answer(backend, "cross_entropy", x, y, reduction="none", grad=True)

    np.testing.assert_allclose(capped.loss, free.loss, 3e-7)
    np.testing.assert_allclose(capped.grad, free.grad, 1e-6)


def test_gradients_beyond_float32_are_refused(backend: Backend) -> None:
    """Weights so small that their sum's inverse is beyond float32: no infinite gradient, but a sentence."""
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    weight = np.full(3, 1e-39, np.float32)

    with pytest.raises(InvalidRequest, match=r"the gradients would be multiplied by 5e\+38"):
        answer(backend, "cross_entropy", x, y, weight=weight, grad=True)

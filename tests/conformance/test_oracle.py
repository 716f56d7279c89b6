"""The oracle itself, against PyTorch's float64 where that is exact to 1e-12, and against worked numbers."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from tests.conformance.agreement import reference
from tests.conformance.cases import LAYOUTS, Asked, case
from tests.conformance.losses import LOSSES
from tests.conformance.pytorch import results
from tests.oracle.accepted import allowed, assert_accepted, ulp
from tests.oracle.exact import decode, mp, times


@pytest.mark.parametrize("loss", LOSSES)
def test_agrees_with_pytorch(loss: str) -> None:
    """On ordinary values the oracle and PyTorch in float64 agree to 1e-12: losses, and gradients by autograd."""
    of = LOSSES[loss]
    shapes = list(LAYOUTS.values())[:: 1 if of.primary else 2]
    for option, reduction, shape in product(of.options, of.reductions, shapes):
        ordinary = case(loss, option, reduction, "float64", shape)
        truth, theirs = reference(ordinary.asked), results(ordinary.asked)

        assert theirs is not None
        for name, found in theirs.items():
            exact = truth.loss if name == "loss" else truth.grads[name]
            np.testing.assert_allclose(found, exact.astype(np.float64), rtol=1e-12, atol=1e-12, err_msg=str(ordinary))


def test_entropy_kinds_agree() -> None:
    """Counts, the probabilities they stand for, and those probabilities' logarithms have one entropy."""
    counts = np.array([[2.0, 3.0, 4.0, 7.0]])
    by_counts = reference(Asked("entropy", (counts,), {"kind": "counts"}))
    by_logits = reference(Asked("entropy", (np.log(counts),), {"kind": "logits"}))
    by_probabilities = reference(Asked("entropy", (counts / 16,), {}))

    assert abs(by_counts.loss[()] - by_probabilities.loss[()]) < mp.mpf("1e-45")
    assert abs(by_counts.loss[()] - by_logits.loss[()]) < 1e-15


@pytest.mark.parametrize("kind", ["probabilities", "logits", "counts"])
def test_entropy_gradients_are_derivatives(kind: str) -> None:
    """The gradients of the entropies are what differences in 50 digits give."""
    x = np.array([0.25, 0.5, 2.0])
    truth = reference(Asked("entropy", (x,), {"kind": kind, "base": 2.0}))

    for c in range(3):
        step = np.zeros(3)
        step[c] = 2.0**-40
        ahead = reference(Asked("entropy", (x + step,), {"kind": kind, "base": 2.0})).loss[()]
        behind = reference(Asked("entropy", (x - step,), {"kind": kind, "base": 2.0})).loss[()]
        assert abs((ahead - behind) / mp.ldexp(1, -39) - truth.grads["input"][c]) < 1e-20


def test_confident_rows_keep_their_digits() -> None:
    """At a gap of 1e4 the loss of the right class is exp(−1e4), not 0."""
    truth = reference(Asked("cross_entropy", (np.array([1e4, 0.0]), np.array(0)), {}))

    assert abs(truth.loss[()] / mp.exp(-10000) - 1) < mp.mpf("1e-45")
    assert abs(truth.grads["input"][0] / mp.exp(-10000) + 1) < mp.mpf("1e-45")


def test_zero_annihilates_infinity_but_not_nan() -> None:
    """0·∞ is 0 and 0·NaN is NaN."""
    assert times(mp.mpf(0), mp.inf) == 0
    assert mp.isnan(times(mp.mpf(0), mp.nan))


def test_accepted_error_is_in_units_of_the_largest_entry() -> None:
    """Four float32 ulp of 8 are 3.8e-6, and a message names entry and error."""
    oracle = decode(np.array([8.0, 1.0]))

    assert allowed(oracle, "float32") == 4 * ulp(mp.mpf(8), "float32") == mp.mpf(2) ** -18
    assert_accepted(np.array([8.0, 1 + 2**-18], np.float32), oracle, "float32")
    with pytest.raises(AssertionError, match=r"result\[1\] is 1.0000.* 5.0 float32 ulp of the largest entry off"):
        assert_accepted(np.array([8.0, 1 + 5 * 2**-20], np.float32), oracle, "float32")


def test_accepted_error_knows_overflow() -> None:
    """What a dtype cannot hold is its infinity, of the right sign."""
    oracle = decode(np.array([1e6, math.inf, math.nan]))

    assert_accepted(np.array([np.inf, np.inf, np.nan], np.float16), oracle, "float16")
    with pytest.raises(AssertionError, match="truly 1000000"):
        assert_accepted(np.array([-np.inf, np.inf, np.nan], np.float16), oracle, "float16")

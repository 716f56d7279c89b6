"""Denominators that the client adds up, against the server's own loops."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from lossd.request.build import build
from lossd.routing import mean_denominator as denominators
from lossd.routing.mean_denominator import MeanDenominator, denominator
from lossd_server.jobs import reduction

RNG = np.random.default_rng(5)
ROWS, CLASSES = 5000, 37
X = np.zeros((ROWS, CLASSES), np.float32)
Y = RNG.integers(0, CLASSES, ROWS)
WEIGHT = RNG.exponential(size=CLASSES)
ROW_WEIGHT = RNG.normal(size=ROWS) * 10.0 ** RNG.integers(-8, 8, ROWS)
NONE = np.empty(0)


@pytest.mark.parametrize("chunk", [1, 64, 1 << 20])
@pytest.mark.parametrize("weight", [None, WEIGHT, WEIGHT.astype(np.float32), WEIGHT.astype(ml_dtypes.bfloat16)])
@pytest.mark.parametrize("row_weight", [None, ROW_WEIGHT, ROW_WEIGHT.astype(np.float32)])
def test_kept_classes_are_added_as_the_server_adds(
    chunk: int, weight: Any, row_weight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits, however the pass is cut."""
    monkeypatch.setattr(denominators, "_CHUNK_ROWS", chunk)
    call = build("cross_entropy", X, Y, weight=weight, row_weight=row_weight, ignore_index=3)

    found = denominator(call)

    theirs: Any = [NONE if one is None else one.astype(np.float64) for one in (weight, row_weight)]
    _, total, lost, count = reduction.kept_classes(Y, 3, CLASSES, theirs[0], theirs[1], 0.0, 0.0)
    assert (found.weight_sum, found.count) == (reduction.whole_sum(total, lost), count)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("row_weight", [ROW_WEIGHT, ROW_WEIGHT.astype(np.float32), np.full(3, 1e308)])
def test_row_weights_of_distributions_are_added_exactly(
    chunk: int, row_weight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what every addition rounds off, as the server's."""
    monkeypatch.setattr(denominators, "_CHUNK_ROWS", chunk)
    call = build("entropy", X[: len(row_weight)], row_weight=row_weight)

    assert denominator(call).weight_sum == reduction.ordered_sum(row_weight, 0.0)


def test_bits_of_torchs_bfloat16_are_numbers() -> None:
    """Though numpy holds them as integers."""
    weight = torch.tensor(WEIGHT).to(torch.bfloat16)

    found = denominator(build("nll", X, Y, weight=weight))

    _, total, lost, _ = reduction.kept_classes(Y, -100, CLASSES, weight.double().numpy(), NONE, 0.0, 0.0)
    assert found.weight_sum == reduction.whole_sum(total, lost)


def test_labels_that_are_no_class_count_nothing() -> None:
    """The block that holds them fails on the server, which names them."""
    assert denominator(build("nll", X[:4], np.array([0, -1, CLASSES, 2]), weight=WEIGHT)).count == 2


@pytest.mark.parametrize("weight_sum", [2.5, -2.5, inf, -inf])
@pytest.mark.parametrize("upstream", [1.0, -0.3])
def test_what_the_wire_has_no_normalizer_for_goes_by_the_upstream_gradient(weight_sum: float, upstream: float) -> None:
    """Their quotient is the mean's scale, to the bit."""
    found = MeanDenominator(weight_sum, 3)

    assert found.upstream(upstream) / found.normalizer == upstream / weight_sum
    assert found.loss(7.0, empty_zero=False) == 7.0 / weight_sum


@pytest.mark.parametrize("weight_sum", [0.0, nan])
def test_a_denominator_that_is_no_number_makes_gradients_nan(weight_sum: float) -> None:
    """As dividing by it would."""
    found = MeanDenominator(weight_sum, 3)

    assert isnan(found.upstream(1.0) / found.normalizer)
    assert isnan(found.loss(7.0, empty_zero=True))


def test_nothing_kept_is_the_empty_mean() -> None:
    """NaN or 0; the gradients are 0 in any case."""
    found = MeanDenominator(0.0, 0)

    assert (found.normalizer, found.upstream(1.0)) == (1.0, 1.0)
    assert isnan(found.loss(0.0, empty_zero=False))
    assert found.loss(0.0, empty_zero=True) == 0.0

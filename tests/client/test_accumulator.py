"""Adding results up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.results import Summary, Timing


def result(loss_sum: float, weight_sum: float, count: int = 1) -> lossd.Result:
    return lossd.Result(np.zeros(()), Summary(loss_sum, weight_sum, count), Timing(0.0, 0.0, 1, 1, 0.0))


def test_the_mean_weighs_parts_by_their_denominators() -> None:
    """Not the mean of means."""
    acc = lossd.Accumulator()
    acc += result(3.0, 1.0)
    acc += result(1.0, 3.0, 3)

    assert (float(acc), acc.summary) == (1.0, Summary(4.0, 4.0, 4))
    assert acc.loss.shape == ()


def test_sums_are_exact() -> None:
    """1e16 + 1 − 1e16 is 1, in any order."""
    acc = lossd.Accumulator(reduction="sum")
    for loss in (1e16, 1.0, -1e16):
        acc += result(loss, 1.0)

    assert float(acc) == 1.0


@pytest.mark.parametrize("parts, loss", [([], math.nan), ([(1.0, 0.0)], math.inf), ([(math.nan, 1.0)], math.nan)])
def test_what_has_no_mean(parts: list[tuple[float, float]], loss: float) -> None:
    """NaN of nothing, as PyTorch; what IEEE division says otherwise."""
    acc = lossd.Accumulator()
    for part in parts:
        acc += result(*part)

    assert float(acc) == pytest.approx(loss, nan_ok=True)


def test_infinite_losses_of_both_signs_are_nan() -> None:
    """As any addition of theirs."""
    acc = lossd.Accumulator("sum")
    for loss in (math.inf, -math.inf):
        acc += result(loss, 1.0)

    assert math.isnan(float(acc))


def test_it_reads_as_a_number() -> None:
    """In every format of a float; its text is short, whatever was added."""
    acc = lossd.Accumulator()
    acc += result(3.0, 2.0, 2)

    assert f"{acc:.3f}" == "1.500"
    assert f"{acc}" == repr(acc) == "Accumulator(reduction='mean', loss=1.5, count=2)"


def test_other_reductions_are_refused() -> None:
    """By name."""
    wrong: Any = "none"
    with pytest.raises(lossd.InvalidArgument, match="reduction must be 'mean' or 'sum', not 'none'"):
        lossd.Accumulator(wrong)

"""What two runs are compared by: sums of their rows, and the bootstrap of the difference of their means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd.evaluation.comparing.bootstrap import difference_interval, same_rows
from lossd.evaluation.comparing.row_sums import GROUPS, SumsOfRows, SumsOfRowsSoFar, bootstrap_group


def rows(losses: npt.NDArray[Any], target: npt.NDArray[Any] | None = None, blocks: int = 1) -> SumsOfRows:
    collected = SumsOfRowsSoFar(len(losses), 1)
    for part in np.array_split(np.arange(len(losses)), blocks):
        collected.add(part, losses[part], None if target is None else target[part])
    return collected.sums()


@pytest.mark.parametrize("count", [50, 500, 40_000])
def test_an_interval_is_as_wide_as_the_normal_one(count: int) -> None:
    """Of means of so many rows: their differences, or each run by itself; also where rows are in groups."""
    random = np.random.default_rng(1)
    one = random.exponential(size=count)
    other = one + random.normal(0.1, 0.3, count)
    this, that = rows(other, blocks=7), rows(one)

    paired = difference_interval(this, that)
    apart = difference_interval(this, rows(one, np.zeros(count)))

    assert paired is not None and apart is not None  # noqa: PT018  # for the type checker
    assert (paired.paired, apart.paired) == (True, False)
    mean = (other - one).mean()
    for found, deviation in ((paired, (other - one).var()), (apart, other.var() + one.var())):
        half = 1.96 * math.sqrt(deviation / count)
        assert found.low == pytest.approx(mean - half, abs=0.25 * half)
        assert found.high == pytest.approx(mean + half, abs=0.25 * half)


def test_the_numbers_are_the_same_each_time() -> None:
    """The seed is fixed."""
    losses = np.random.default_rng(2).random(100)
    assert difference_interval(rows(losses), rows(losses[::-1])) == difference_interval(
        rows(losses), rows(losses[::-1])
    )


def test_the_interval_holds_what_it_says() -> None:
    """In 19 of 20 experiments the true difference lies in it: in 300 of them, within 4 standard deviations."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        interval = difference_interval(rows(random.normal(0.2, 1, 60)), rows(random.normal(0, 1, 60)))
        assert interval is not None
        held += interval.low <= 0.2 <= interval.high
    assert held >= 300 * 0.95 - 4 * math.sqrt(300 * 0.95 * 0.05)
    assert held < 300


@pytest.mark.parametrize("losses", [[1.0], [1.0, math.nan], [1.0, math.inf], []])
def test_what_has_no_interval(losses: list[float]) -> None:
    """Too few rows, or a difference that is no number."""
    assert difference_interval(rows(np.array(losses)), rows(np.ones(len(losses)))) is None


def test_same_rows_have_the_same_targets() -> None:
    """Whatever dtype they are stored in; ignored rows are ignored in both."""
    losses = np.ones(4)
    assert same_rows(rows(losses, np.arange(4)), rows(losses, np.arange(4, dtype=np.int8), blocks=2))
    assert not same_rows(rows(losses, np.arange(4)), rows(losses, np.arange(4)[::-1]))
    fewer = SumsOfRowsSoFar(4, 1)
    fewer.add(np.arange(3), losses[:3], None)
    assert not same_rows(rows(losses), fewer.sums())


def test_groups_are_of_like_size() -> None:
    """Of consecutive rows and of every hundredth: a binomial's spread, no pattern."""
    for step in (1, 100):
        sizes = np.bincount(bootstrap_group(np.arange(0, 1_000_000 * step, step), 1_000_000 * step), minlength=GROUPS)
        assert abs(sizes.var() / sizes.mean() - 1) < 0.1


def test_rows_of_several_losses_are_one() -> None:
    """Their sum, and how many they are."""
    collected = SumsOfRowsSoFar(2, 3)
    collected.add(np.array([0, 1, 2, 4]), np.array([1.0, 2.0, 3.0, 4.0]), None)
    assert collected.sums().loss_sums.tolist() == [6.0, 4.0]
    assert collected.sums().counts.tolist() == [3, 1]

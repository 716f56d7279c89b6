"""What `lossd eval` keeps of its rows while blocks go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.evaluation.measures import Calibration
from lossd.evaluation.worst import Sample, Worst


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.inf, np.nan, -1.0]), max_size=30), st.integers(1, 5), st.data())
def test_the_worst_are_those_of_a_stable_sort(losses: list[float], most: int, data: st.DataObject) -> None:
    """NaN first, then greatest first, the lower index of equals; however the blocks are cut."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(losses)), max_size=4)))
    worst = Worst(most)
    for start, stop in zip([0, *cuts], [*cuts, len(losses)], strict=True):
        worst.add({"index": np.arange(start, stop), "loss": np.array(losses[start:stop], np.float32)})

    keys = [(loss == loss, -loss if loss == loss else 0.0, i) for i, loss in enumerate(losses)]
    assert [row["index"] for row in worst.rows((len(losses),))] == [i for _, _, i in sorted(keys)[:most]]


@given(st.lists(st.integers(0, 20), max_size=20))
def test_a_sample_is_every_kth_loss(sizes: list[int]) -> None:
    """From the first on, at most as many as were asked for, at least half as many; however the blocks are cut."""
    sample = Sample(most=8)
    total = sum(sizes)
    start = 0
    for size in sizes:
        sample.add(np.arange(start, start + size, dtype=np.float32))
        start += size

    values = sample.values()
    stride = int(values[1] - values[0]) if len(values) > 1 else 1
    assert values.tolist() == list(range(0, total, stride))
    assert len(values) <= 8
    assert len(values) >= min(total, 4)


def test_bins_of_confidence_are_closed_above() -> None:
    """1 and what is just below lie in the last, 0 in the first; NaN in none."""
    calibration = Calibration()
    calibration.add(np.array([0.0, 1 / 15, 1.0, 0.99, np.nan]), np.array([False, True, True, False, True]))

    found = calibration.reliability()
    assert found.counts.tolist() == [2, *[0] * 13, 2]
    assert found.error == pytest.approx((2 * abs(1 / 30 - 0.5) + 2 * abs(0.995 - 0.5)) / 4)

"""The table of `lossd eval`: what it says of many losses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.client.evaluation.conftest import Evaluated


@pytest.mark.parametrize(
    ("p", "least", "median", "greatest"),
    [
        ([1.0, 0.5, 0.25, 0.0], "0", "1.03972077", "inf"),
        ([1.0, 0.5, 0.0, 0.0], "0", "inf", "inf"),
        ([1.0, 0.0, 0.0], "0", "inf", "inf"),
        ([0.5], "0.693147181", "0.693147181", "0.693147181"),
        ([0.5, np.nan], "nan", "nan", "nan"),
    ],
)
def test_losses_may_be_infinite(
    evaluated: Evaluated, tmp_path: Path, p: list[float], least: str, median: str, greatest: str
) -> None:
    """Their least, median and greatest are what they are, without a remark of a library."""
    with np.errstate(divide="ignore"):
        np.save(tmp_path / "x.npy", np.log(p)[:, None])
    np.save(tmp_path / "t.npy", np.zeros(len(p), np.int64))

    found = evaluated("nll", "--input", "x.npy", "--target", "t.npy", "--reduction", "none")

    assert found.status == 0, found.err
    for name, value in (("least", least), ("median", median), ("greatest", greatest)):
        assert re.search(rf"{name} loss +{re.escape(value)}\b", found.out), found.out
    assert "RuntimeWarning" not in found.err

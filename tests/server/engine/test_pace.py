"""Pace: what it says of a line, beside what its batches took."""

from __future__ import annotations

import pytest

from lossd_server.engine.pace import MOST, Pace


@pytest.mark.parametrize("slower", [0.1, 1.0, 7.0])
def test_it_comes_to_what_batches_take(slower: float) -> None:
    """Whatever their sizes."""
    pace = Pace()
    for n in range(100):
        cost_ns = 1e6 * (1 + n % 3)
        pace.observe(cost_ns, slower * 1e-9 * cost_ns)

    assert pace.seconds(1e9) == pytest.approx(slower, rel=1e-3)


def test_one_that_stopped_says_little() -> None:
    """A batch that took a minute, for it was compiled first, leaves the pace within a few times of what it was; and
    batches as before bring it back."""
    pace = Pace()
    pace.observe(1e6, 60.0)
    stopped = pace.seconds(1e9)
    for _ in range(60):
        pace.observe(1e6, 1e-3)

    assert stopped <= MOST / 4
    assert pace.seconds(1e9) == pytest.approx(1.0, rel=0.05)


def test_nothing_says_nothing() -> None:
    """A batch without cost."""
    pace = Pace()
    pace.observe(0.0, 1.0)

    assert pace.seconds(1e9) == 1.0

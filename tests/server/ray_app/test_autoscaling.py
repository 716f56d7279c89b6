"""Autoscaling of Ray's replicas by what each says that it does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lossd_server.ray_app.autoscaling import UTILIZATION, ByUtilization, wanted


@pytest.mark.parametrize(
    "utilizations, replicas, expected",
    [
        ([0.6, 0.6], 2, 2),
        ([0.7, 0.6], 2, 3),
        ([0.1, 0.1, 0.1], 3, 1),
        ([0.0], 1, 1),
        ([], 4, 4),  # nobody has said anything yet
        ([1.2], 1, 2),
        ([30.0], 1, 4),  # however long its line is
        ([0.9], 2, 3),  # the other is as busy, for all that is known
    ],
)
def test_how_many_are_wanted(utilizations: list[float], replicas: int, expected: int) -> None:
    """So many that each does 0.6 of what it can."""
    assert wanted(utilizations, replicas, 0.6) == expected


def test_serve_asks_it() -> None:
    """With what replicas recorded, by names; before anything was, nothing changes."""
    policy = ByUtilization(target=0.5)
    told = SimpleNamespace(aggregated_metrics={UTILIZATION: {"one": 1.0, "two": 1.0}}, current_num_replicas=2)

    assert policy(told) == (4, {})
    assert policy(SimpleNamespace(aggregated_metrics=None, current_num_replicas=3)) == (3, {})

"""When a call is repeated, with a clock of the test's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.rpc import retry


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def policy(timeout_s: float, clock: Clock, factor: float = 1.0) -> retry.Retry:
    return retry.Retry(timeout_s, clock=clock, uniform=lambda low, high: factor)


def test_waits_grow_to_their_longest() -> None:
    """Doubling from 50 ms, never above 2 s."""
    attempts = policy(1000.0, Clock())

    waits = [attempts.wait_s(lossd.Unavailable("away")) for _ in range(8)]

    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_waits_are_jittered() -> None:
    """The draw is from 20 % either side, and multiplies the wait."""
    drawn = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 1.2

    assert retry.Retry(10.0, clock=Clock(), uniform=uniform).wait_s(lossd.Unavailable("away")) == pytest.approx(0.06)
    assert drawn == [(0.8, 1.2)]


@pytest.mark.parametrize(
    "error", [lossd.Overloaded("full", retry_after_s=3.0), lossd.Unavailable("x", retry_after_s=3.0)]
)
def test_the_servers_wait_is_kept(error: lossd.Error) -> None:
    """RetryInfo is the least wait."""
    assert policy(10.0, Clock()).wait_s(error) == 3.0


def test_a_wait_that_does_not_fit_the_deadline_raises_the_error() -> None:
    """So a server that stays away is Unavailable, and one that stays full Overloaded."""
    clock = Clock()
    attempts = policy(1.0, clock)
    clock.now_s += 0.96

    with pytest.raises(lossd.Unavailable, match="away"):
        attempts.wait_s(lossd.Unavailable("away"))


@pytest.mark.parametrize(
    "error",
    [
        lossd.InvalidArgument("wrong"),
        lossd.TooLarge("large"),
        lossd.DeadlineExceeded("late"),
        lossd.Unauthenticated("who"),
        lossd.NotServed("no"),
        lossd.InternalError("bug"),
        lossd.Unavailable("closed", reason="CLIENT_CLOSED"),
    ],
)
def test_what_repeating_cannot_help_is_raised_at_once(error: lossd.Error) -> None:
    """The same exception, not a new one."""
    with pytest.raises(lossd.Error) as caught:
        policy(10.0, Clock()).wait_s(error)

    assert caught.value is error


def test_the_remaining_time_ends_at_zero() -> None:
    """Each attempt has what is left of the call's deadline."""
    clock = Clock()
    attempts = policy(2.0, clock)
    clock.now_s += 1.5

    assert attempts.remaining_s() == 0.5
    clock.now_s += 5.0
    assert attempts.remaining_s() == 0.0


def test_progress_begins_the_time_anew_where_the_call_is_not_bounded() -> None:
    """A stream may take as long as it gets on."""
    clock = Clock()
    stream = retry.Retry(2.0, bounded=False, clock=clock)
    whole = policy(2.0, clock)
    clock.now_s += 1.5
    stream.extend()
    whole.extend()

    assert stream.remaining_s() == 2.0
    assert whole.remaining_s() == 0.5


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "soon", None])
def test_a_timeout_is_a_positive_finite_number(timeout: float) -> None:
    """Anything else names the option."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        retry.deadline_s(timeout)

    assert caught.value.field == "timeout"


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, math.nan, "soon", None, np.ones((2, 2))])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(
        lossd.InvalidArgument, match="timeout must be a positive, finite number of seconds, not "
    ) as one:
        retry.deadline_s(timeout)

    assert one.value.field == "timeout"
    assert "\n" not in str(one.value)

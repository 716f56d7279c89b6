"""Refused evaluations wait beside each other, each for its own time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossd
from lossd.request.build import build
from lossd.routing.route import Route
from lossd.rpc.retry import LONGEST_S, Retry
from lossd.streaming.evaluation import Evaluation
from lossd.streaming.refused import Refused


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refused(retry_after_s: float | None = None) -> Evaluation:
    evaluation = Evaluation(Route(build("entropy", np.ones((1, 2), np.float32))), 0.0)
    evaluation.outcome = lossd.Overloaded("full", retry_after_s=retry_after_s)
    return evaluation


def waiting(timeout_s: float = 60.0) -> tuple[Refused, Clock]:
    clock = Clock()
    retry = Retry(timeout_s, clock=clock, uniform=lambda low, high: 1.0)
    return Refused(retry, clock), clock


def test_many_that_are_refused_together_are_due_together() -> None:
    """Their waits do not add up, and do not make each other longer."""
    queue, clock = waiting()
    evaluations = [refused(0.5) for _ in range(16)]

    assert all(map(queue.take, evaluations))

    assert queue.due() == []
    assert queue.next_s() == 0.5
    clock.now_s = 0.5
    assert queue.due() == evaluations
    assert [one.outcome for one in evaluations] == [None] * 16


def test_the_one_that_is_due_first_goes_first() -> None:
    """Whatever the order in which they were refused."""
    queue, clock = waiting()
    late, early = refused(3.0), refused(1.0)
    queue.take(late)
    queue.take(early)
    clock.now_s = 1.0

    assert queue.due() == [early]
    assert queue.next_s() == 2.0


def test_each_waits_longer_every_time() -> None:
    """By its own count of refusals."""
    queue, clock = waiting(1e6)
    often, waits = refused(), []
    for _ in range(2000):
        often.outcome = lossd.Overloaded("full", retry_after_s=0.0)
        assert queue.take(often)
        waits.append(queue.next_s())
        clock.now_s += waits[-1]
        assert queue.due() == [often]

    assert waits[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert waits[-1] == pytest.approx(LONGEST_S)


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        (lossd.Overloaded("full", retry_after_s=100.0), False),
        (lossd.InvalidArgument("wrong"), False),
        (lossd.Overloaded("full", retry_after_s=0.1), True),
    ],
)
def test_what_cannot_be_repeated_stays_as_it_ended(outcome: lossd.Error, spent: bool) -> None:
    """No time left, no passing failure, or an input that is overwritten."""
    queue, _ = waiting()
    evaluation = refused()
    evaluation.outcome, evaluation.spent = outcome, spent

    assert not queue.take(evaluation)
    assert evaluation.outcome is outcome
    assert queue.next_s() == float("inf")


def test_nothing_waits_after_a_new_stream_has_taken_all() -> None:
    """It begins with every evaluation that is unanswered."""
    queue, clock = waiting()
    queue.take(refused(1.0))
    queue.clear()
    clock.now_s = 5.0

    result: list[Any] = queue.due()
    assert result == []

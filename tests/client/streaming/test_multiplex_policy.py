"""When small calls share a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd.request.build import build
from lossd.streaming.multiplex_policy import ENOUGH, FIRST_PAUSE_S, LONGEST_PAUSE_S, WITHIN_S, MultiplexPolicy, may_join

X = np.zeros((8, 16), np.float32)


@pytest.mark.parametrize(
    ("rows", "asked", "options", "may"),
    [
        (8, "auto", {}, True),
        (8, "unary", {}, False),
        (8, "auto", {"grad": True, "out": X.copy()}, False),
        (1024, "auto", {}, False),
    ],
)
def test_only_small_calls_whose_transport_is_left_to_the_client(
    rows: int, asked: Any, options: dict[str, Any], may: bool
) -> None:
    """Not those that write to the caller's arrays: nobody may wait for them by then."""
    call = build("entropy", np.zeros((rows, 16), np.float32), **options)

    assert may_join(call, asked) is may


def test_calls_at_once_share() -> None:
    """A single one goes by itself."""
    joining = MultiplexPolicy(possible=True)

    assert not joining.wants(1, now_s=100.0)
    assert joining.wants(2, now_s=100.0)


def test_calls_one_after_the_other_share_where_they_are_fast() -> None:
    """ENOUGH within WITHIN_S; slower ones never."""
    joining = MultiplexPolicy(possible=True)
    fast = [joining.wants(1, now_s=100.0 + WITHIN_S * i / 20) for i in range(ENOUGH + 1)]
    joining = MultiplexPolicy(possible=True)
    slow = [joining.wants(1, now_s=100.0 + WITHIN_S * i) for i in range(100)]

    assert fast == [False] * ENOUGH + [True]
    assert not any(slow)


def test_calls_that_go_to_servers_in_turn_never_share() -> None:
    """A stream would stay with one of them."""
    assert not MultiplexPolicy(possible=False).wants(128, now_s=100.0)


def test_after_a_failure_calls_go_by_themselves_for_a_while() -> None:
    """Twice as long each time, up to the longest; an answer makes it short again."""
    joining, now_s, pauses = MultiplexPolicy(possible=True), 100.0, []
    for _ in range(10):
        joining.ended(failed=True, answered=False, now_s=now_s)
        pause_s = next(s for s in range(1, 1000) if joining.wants(2, now_s + s))
        pauses.append(pause_s)
        now_s += pause_s
    joining.ended(failed=True, answered=True, now_s=now_s)

    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert max(pauses) == LONGEST_PAUSE_S
    assert joining.wants(2, now_s + FIRST_PAUSE_S)


def test_a_stream_that_was_let_go_is_opened_again_at_once() -> None:
    """Its end says nothing against it."""
    joining = MultiplexPolicy(possible=True)
    joining.ended(failed=False, answered=True, now_s=100.0)

    assert joining.wants(2, now_s=100.0)

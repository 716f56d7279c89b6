"""How long a stream waits for its client."""

from __future__ import annotations

from math import inf

import pytest

from lossd_server.errors import DeadlineOver, ServerError
from lossd_server.streaming.stream_times import CONTENDED_BYTES_PER_S, CONTENDED_S, StreamTimes

IDLE_S = 60.0
MIB = 1 << 20


def reasons(times: StreamTimes, contended: bool, *at: float) -> list[str]:
    found: list[ServerError | None] = [times.overdue(now, IDLE_S, contended) for now in at]
    assert all(one is None or isinstance(one, DeadlineOver) for one in found)
    return ["" if one is None else one.reason for one in found]


def writing() -> StreamTimes:
    times = StreamTimes()
    times.hears()
    times.writes(16 * MIB, 100.0)
    return times


def receiving() -> StreamTimes:
    times = StreamTimes()
    times.hears()
    times.receives(16 * MIB, 100.0)
    return times


@pytest.mark.parametrize(("times", "reason"), [(writing(), "STREAM_NOT_READ"), (receiving(), "BODY_TIMEOUT")])
def test_a_message_has_its_time(times: StreamTimes, reason: str) -> None:
    """All of the idle time where nobody waits for its memory; else what it takes at a slow rate."""
    bound_s = CONTENDED_S + 16 * MIB / CONTENDED_BYTES_PER_S

    assert reasons(times, False, 100.0 + IDLE_S - 0.1, 100.0 + IDLE_S) == ["", reason]
    assert reasons(times, True, 100.0 + bound_s - 0.1, 100.0 + bound_s) == ["", reason]


def test_a_front_that_lets_go_of_nothing_gives_all_the_time() -> None:
    """Nothing would be won by ending its streams early."""
    times = writing()
    times.lets_in = False

    assert reasons(times, True, 100.0 + IDLE_S - 0.1, 100.0 + IDLE_S) == ["", "STREAM_NOT_READ"]


def test_contention_allows_no_more_than_the_idle_time() -> None:
    """However large the message is."""
    times = StreamTimes()
    times.writes(1 << 40, 100.0)

    assert reasons(times, True, 100.0 + IDLE_S) == ["STREAM_NOT_READ"]


def test_a_stream_that_waits_for_nothing_is_not_overdue() -> None:
    """What was received and written is over."""
    times = StreamTimes()
    times.receives(1, 1.0)
    times.received()
    times.writes(1, 1.0)
    times.written()

    assert reasons(times, True, 1e9) == [""]


def test_silence_is_while_it_listens_and_is_read() -> None:
    """Not once a message has begun, nor while the server itself holds it up."""
    times = StreamTimes()
    assert times.silent_since == inf
    times.listens(5.0)
    assert times.silent_since == 5.0
    times.read_since = inf
    assert times.silent_since == inf
    times.read_since = 0.0
    times.hears()

    assert times.silent_since == inf

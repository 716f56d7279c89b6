"""The clock of a connection: when it is asked whether it is there, and when it ends."""

from __future__ import annotations

import pytest

from lossd_server.front.http2.connection_clock import ANNOUNCE_S, JITTER, ConnectionClock, Due
from lossd_server.front.http2.limits import Http2Limits

IDLE_S, AGE_S = 900.0, 3600.0
LIMITS = Http2Limits(connection_idle_s=IDLE_S, connection_age_s=AGE_S)


def clock(luck: float = 0.5, limits: Http2Limits = LIMITS) -> ConnectionClock:
    """Opened at 0."""
    return ConnectionClock(limits, 0.0, luck)


def at(one: ConnectionClock, now_s: float, calls: int = 0) -> Due:
    """What is due at a time, of a client that has just answered a PING."""
    one.came_s = now_s
    return one.due(now_s, True, calls)


def test_idle() -> None:
    """A connection without a call ends after its time, though its client answers PINGs: announced, last, closed."""
    one = clock()

    assert at(one, IDLE_S - 1) is Due.NOTHING
    assert at(one, IDLE_S) is Due.ANNOUNCE
    assert at(one, IDLE_S + ANNOUNCE_S / 2) is Due.NOTHING
    assert at(one, IDLE_S + ANNOUNCE_S) is Due.LAST
    assert at(one, IDLE_S + ANNOUNCE_S) is Due.CLOSE


def test_the_last_call_counts() -> None:
    """From its end, be it seen or only that it came."""
    one = clock()
    assert at(one, 500.0, calls=1) is Due.NOTHING
    one.called_s = 600.0

    assert at(one, IDLE_S + 599.0) is Due.NOTHING
    assert at(one, IDLE_S + 600.0) is Due.ANNOUNCE


def test_a_call_that_came_after_the_announcement() -> None:
    """It is waited for, however long it takes."""
    one = clock()
    assert at(one, IDLE_S) is Due.ANNOUNCE
    one.known = True

    assert at(one, IDLE_S + 0.1, calls=1) is Due.LAST
    assert at(one, IDLE_S + 1e6, calls=1) is Due.NOTHING
    assert at(one, IDLE_S + 1e6 + 1) is Due.CLOSE


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_age(luck: float) -> None:
    """A connection with calls ends too, a tenth earlier or later; without the setting it never does."""
    one = clock(luck)
    end_s = AGE_S * (1 - JITTER + 2 * JITTER * luck)

    assert at(one, end_s - 1, calls=1) is Due.NOTHING
    assert at(one, end_s + 1, calls=1) is Due.ANNOUNCE
    assert at(clock(luck, Http2Limits()), 1e9, calls=1) is Due.NOTHING


def test_a_client_that_does_not_answer() -> None:
    """It is asked once, and lost if it says nothing; one that never acknowledged our SETTINGS is told why."""
    one = clock()

    assert one.due(LIMITS.keepalive_s, True, 1) is Due.PING
    assert one.due(LIMITS.keepalive_s + 1, True, 1) is Due.NOTHING
    assert one.due(LIMITS.keepalive_s + LIMITS.keepalive_timeout_s, True, 1) is Due.LOST
    assert clock().due(LIMITS.settings_timeout_s, False, 0) is Due.SETTINGS_TIMEOUT

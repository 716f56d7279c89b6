"""When a call is repeated, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.rpc import retry
from lossd.rpc.protocol import Lifetime
from tests.client.stand_in import StandIn


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


def test_another_server_is_not_waited_for() -> None:
    """What one that goes away asks for is no reason to wait where others serve; what one that is full asks for is."""
    attempts = retry.Retry(1000.0, Lifetime(several=True), clock=Clock(), uniform=lambda low, high: 1.0)

    assert attempts.wait_s(lossd.Unavailable("away", retry_after_s=3.0)) == 0.05
    assert attempts.wait_s(lossd.Overloaded("full", retry_after_s=3.0)) == 3.0


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


NO_TIMES = [
    *(0, -1.0, math.inf, -math.inf, math.nan, 1j, -(10**400), Decimal("Infinity"), Decimal("NaN"), np.float32("inf")),
    *("soon", "5", b"5", None, True, np.True_, [5.0], np.ones(1), np.ones((2, 2)), timedelta(seconds=5)),
]


@pytest.mark.parametrize("timeout", NO_TIMES)
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(
        lossd.InvalidArgument, match="timeout must be a positive, finite number of seconds, not "
    ) as one:
        retry.deadline_s(timeout)

    assert one.value.field == "timeout"
    assert "\n" not in str(one.value)


@pytest.mark.parametrize("timeout", [5, 5.0, np.float32(5), np.int8(5), np.array(5), Decimal(5), Fraction(5)])
def test_a_timeout_may_be_of_any_type_of_number(timeout: Any) -> None:
    """What counts is its value."""
    assert retry.deadline_s(timeout) == 5.0


HUGE = [1e9, 1e10, 1e18, 1e308, 10**400, Decimal("1e400"), Fraction(10**400), np.longdouble("1e400")]
TINY = [1e-9, 1e-300, 5e-324, Decimal("1e-400"), Fraction(1, 10**400)]


@pytest.mark.parametrize("timeout", HUGE)
def test_a_huge_timeout_is_the_longest_that_clocks_can_wait(timeout: Any) -> None:
    """Threads of every system among them; it is still longer than anybody waits."""
    assert retry.deadline_s(timeout) == retry.LONGEST_TIMEOUT_S
    assert 86400 < retry.LONGEST_TIMEOUT_S < threading.TIMEOUT_MAX


@pytest.mark.parametrize("timeout", [*HUGE, 1])
@pytest.mark.parametrize("aio", [False, True])
def test_every_call_takes_any_timeout(server: StandIn, timeout: Any, aio: bool) -> None:
    """Of the client, the call, a stream and connecting: each goes through gRPC's sums, Python's and our own."""
    x = np.full((2, 4), 1.5, np.float32)

    async def awaited() -> list[float]:
        async with lossd.aio.Client(server.address, timeout=timeout, connect_timeout=timeout) as client:
            assert await client.health(timeout=timeout)
            assert (await client.info(timeout=timeout)).version == "0.0"
            calls = [client.entropy(x, timeout=timeout, transport=way) for way in ("unary", "stream", "auto")]
            found = [float(one) for one in await asyncio.gather(*calls)]
            return found + [float(one) async for one in client.map("entropy", [(x,)] * 3, timeout=timeout)]

    def blocking() -> list[float]:
        with lossd.Client(server.address, timeout=timeout, connect_timeout=timeout) as client:
            assert client.health(timeout=timeout)
            assert client.info(timeout=timeout).version == "0.0"
            found = [float(client.entropy(x, timeout=timeout, transport=way)) for way in ("unary", "stream", "auto")]
            return found + [float(one) for one in client.map("entropy", [(x,)] * 3, timeout=timeout)]

    assert (asyncio.run(awaited()) if aio else blocking()) == [1.5] * 6


@pytest.mark.parametrize("timeout", TINY)
def test_a_tiny_timeout_is_no_other_error(server: StandIn, timeout: Any) -> None:
    """By every kind of call of both clients: too late, unless gRPC's clock, which ticks in milliseconds, is slower."""
    x = np.full((2, 4), 1.5, np.float32)

    async def awaited() -> None:
        async with lossd.aio.Client(server.address) as client:
            await client.info()
            for way in ("unary", "stream", "auto"):
                with suppress(lossd.DeadlineExceeded):
                    assert float(await client.entropy(x, timeout=timeout, transport=way)) == 1.5

    asyncio.run(awaited())
    with lossd.Client(server.address) as client:
        client.info()
        for way in ("unary", "stream", "auto"):
            with suppress(lossd.DeadlineExceeded):
                assert float(client.entropy(x, timeout=timeout, transport=way)) == 1.5


@pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
def test_a_wrong_time_names_its_option(option: str) -> None:
    """When the client is made."""
    options: dict[str, Any] = {option: math.inf}

    with pytest.raises(lossd.InvalidArgument, match=f"^{option} must be a positive, finite number of seconds") as one:
        lossd.Client("127.0.0.1:1", **options)

    assert one.value.field == option


def contact(clock: Clock, reached: bool) -> tuple[retry.Retry, Lifetime]:
    """A call with 60 s, of a client that gives up connecting after 5."""
    lifetime = Lifetime(connect_timeout_s=5.0, reached=reached)
    return retry.Retry(60.0, lifetime, clock=clock, uniform=lambda low, high: 1.0), lifetime


def test_a_server_that_was_never_there_is_looked_for_until_the_connect_timeout() -> None:
    """Then the last reason why is raised, however long the call's own deadline is."""
    clock = Clock()
    attempts, _ = contact(clock, reached=False)
    absent = lossd.Unavailable("nothing listens")
    assert attempts.remaining_s() == 5.0
    for wait_s in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        assert attempts.wait_s(absent) == wait_s
        clock.now_s += wait_s

    with pytest.raises(lossd.Unavailable) as caught:
        attempts.wait_s(absent)

    assert caught.value is absent


def test_a_server_that_was_there_is_looked_for_until_the_deadline() -> None:
    """It restarts, most likely."""
    clock = Clock()
    attempts, _ = contact(clock, reached=True)
    clock.now_s += 59.0

    assert attempts.wait_s(lossd.Unavailable("nothing listens")) == 0.05
    assert attempts.remaining_s() == 1.0


@pytest.mark.parametrize("on_the_way", [True, False])
def test_an_answer_gives_the_call_the_rest_of_its_time(on_the_way: bool) -> None:
    """What had the time for connecting only, and found that the server is there, is asked again at once; once.

    Whoever noticed first that it was over: gRPC, or the server, which knows the attempt's deadline.
    """
    clock = Clock()
    attempts, lifetime = contact(clock, reached=False)
    assert attempts.remaining_s() == 5.0
    clock.now_s += 5.0
    lifetime.reached = True
    late = lossd.DeadlineExceeded("no answer within the deadline", on_the_way=on_the_way)

    assert attempts.wait_s(late) == 0.0
    assert attempts.remaining_s() == 55.0
    with pytest.raises(lossd.DeadlineExceeded):
        attempts.wait_s(late)


def test_a_short_deadline_comes_before_the_connect_timeout() -> None:
    """Whichever is sooner."""
    clock = Clock()
    attempts = retry.Retry(2.0, Lifetime(connect_timeout_s=5.0), clock=clock)

    assert attempts.remaining_s() == 2.0


def test_what_is_unavailable_may_be_anothers_affair() -> None:
    """It is raised at once where the caller has another server; one that is full is still waited for."""
    attempts = retry.Retry(1000.0, Lifetime(repeats=False), clock=Clock(), uniform=lambda low, high: 1.0)

    with pytest.raises(lossd.Unavailable):
        attempts.wait_s(lossd.Unavailable("away"))
    assert attempts.wait_s(lossd.Overloaded("full", retry_after_s=3.0)) == 3.0

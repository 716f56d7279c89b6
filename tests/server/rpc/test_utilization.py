"""Utilisation, and what balancing clients are told of it: their weight for a server is calls a second over it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from lossd_server.call.load_report import LoadReport, encoded
from lossd_server.rpc.utilization import CLOSING, NO_WAIT_S, SMOOTH_S, WAIT_TARGET_S, LoadSample, Utilization

STEP_S = 0.1


def after(
    seconds: float, wait_s: float = 0.0, held: float = 0.0, compute: float = 0.0, loop: float = 0.0, calls: float = 0.0
) -> Utilization:
    """Of a server that has been so for so long. compute, loop: busy shares; calls: a second."""
    found = Utilization(LoadSample(0.0, 0.0, 0.0, 0.0, 0.0, 0))
    for step in range(1, round(seconds / STEP_S) + 1):
        now_s = step * STEP_S
        found.observe(LoadSample(now_s, wait_s, held, compute * now_s, loop * now_s, round(calls * now_s)))
    return found


def weight(report: bytes) -> float:
    """As gRPC has it (gRFC A58)."""
    calls, used = struct.unpack_from("<d", report, 1)[0], struct.unpack_from("<d", report, 10)[0]
    return float(calls / used)


@pytest.mark.parametrize(
    "shown, expected",
    [
        ({"wait_s": 2 * WAIT_TARGET_S + NO_WAIT_S, "held": 0.5, "compute": 0.9}, 2.0),
        ({"wait_s": 0.2 * WAIT_TARGET_S, "held": 0.7, "loop": 0.3}, 0.7),
        ({"compute": 0.6, "loop": 0.4}, 0.6),
        ({"compute": 0.1, "loop": 1.0}, 1.0),
        ({"wait_s": NO_WAIT_S}, 0.0),
    ],
)
def test_the_greatest_counts(shown: dict[str, float], expected: float) -> None:
    """Of what calls wait, what is held, and how busy the threads are."""
    assert after(20 * SMOOTH_S, **shown).value == pytest.approx(expected, abs=1e-3)


def test_it_is_smoothed() -> None:
    """After the time of smoothing 1 − 1/e of a change has come, whatever the steps."""
    assert after(SMOOTH_S, held=1.0).value == pytest.approx(0.632, abs=1e-3)


def test_servers_weigh_what_their_calls_take() -> None:
    """However many those are: who has few calls is not left with few. A call that takes nothing counts something."""
    few, many = after(30, calls=10, loop=0.002), after(30, calls=400, loop=0.08)
    lighter, light = after(30, calls=400, loop=0.0002), after(30, calls=400, loop=0.0004)

    assert weight(few.report(False)) == pytest.approx(weight(many.report(False)), rel=1e-6)
    assert weight(lighter.report(False)) == pytest.approx(weight(light.report(False)), rel=0.05)


def test_a_server_that_takes_longer_weighs_less() -> None:
    """By as much, once that is what it does most of the time."""
    fast, slow = after(30, calls=1000, compute=0.5), after(30, calls=500, compute=1.0)

    assert 3.5 < weight(fast.report(False)) / weight(slow.report(False)) < 4.5


def test_a_server_that_goes_away_weighs_least() -> None:
    """It tells more than a full one does."""
    idle, full = after(30, calls=100), after(30, calls=100, compute=1.0, wait_s=WAIT_TARGET_S)

    assert weight(idle.report(True)) < weight(full.report(False)) / 5
    assert idle.report(True) == encoded(CLOSING, idle.calls_a_second)


def test_a_report_is_told_to_who_follows() -> None:
    """What there is at once, and each further one."""
    load, seen = LoadReport(), list[bytes]()
    tell: Callable[[bytes], object] = seen.append
    load.tell(b"a")
    load.follow(tell)
    load.tell(b"b")

    assert (seen, load.trailers()) == ([b"a", b"b"], (("endpoint-load-metrics-bin", b"b"),))
    assert LoadReport().trailers() == ()

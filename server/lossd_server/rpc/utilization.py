"""Utilisation: how much of what a server can do it does, and what balancing clients are told of it. Pure.

A client's weight for a server is calls a second over utilisation (gRFC A58). Where utilisation does not grow with the
calls, who has few of them gets fewer still: what a server at rest shows must not count, nor what is beside the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from lossd_server.call.load_report import encoded

# A call that waits so long finds a server that is fully used; what any busy machine has a timer wait is none.
WAIT_TARGET_S, NO_WAIT_S = 0.05, 0.005
# What is told is smoothed over so long.
SMOOTH_S = 1.0
# What a call counts at least, so that servers at rest weigh about alike.
LEAST_CALL_S = 20e-6
# Told by a server that takes no more calls.
CLOSING = 10.0


@dataclass(frozen=True, slots=True)
class LoadSample:
    """now_s: on a steady clock. wait_s: of a call that would come now. held: of the budget, from 0 to 1. compute_s,
    loop_s: for which the compute thread and the event loop's thread were busy so far. answered: calls so far."""

    now_s: float
    wait_s: float
    held: float
    compute_s: float
    loop_s: float
    answered: int


class Utilization:
    """value: 0 at rest, 1 where nothing more fits, above while calls wait. calls_a_second: those answered."""

    def __init__(self, first: LoadSample) -> None:
        self._last = first
        self._wait = self._held = self._busy = self.calls_a_second = 0.0

    @property
    def value(self) -> float:
        return max(self._wait, self._held, self._busy)

    def observe(self, sample: LoadSample) -> None:
        last, self._last = self._last, sample
        passed_s = sample.now_s - last.now_s
        if passed_s <= 0:
            return
        part = 1 - exp(-passed_s / SMOOTH_S)
        busy = max(sample.compute_s - last.compute_s, sample.loop_s - last.loop_s) / passed_s
        self._wait += part * (max(0.0, sample.wait_s - NO_WAIT_S) / WAIT_TARGET_S - self._wait)
        self._held += part * (sample.held - self._held)
        self._busy += part * (min(busy, 1.0) - self._busy)
        self.calls_a_second += part * ((sample.answered - last.answered) / passed_s - self.calls_a_second)

    @property
    def told(self) -> float:
        """What clients divide by."""
        return self.value + LEAST_CALL_S * self.calls_a_second

    def report(self, closing: bool) -> bytes:
        """What clients are told. closing: no more calls are taken."""
        used = self.told
        return encoded(max(used, CLOSING) if closing else used, self.calls_a_second)

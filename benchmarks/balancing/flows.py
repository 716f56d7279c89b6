"""Small calls, as flows: 54 million a second are no events, so each step moves what all clients send in 50 ms.

Waiting below a step is taken from Pollaczek and Khinchine's formula. Who hears of whom is drawn for each pair.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from balancing.scenario import (
    AWAY_S,
    CLIENTS,
    COUNTED_S,
    EVENT_S,
    SERVERS,
    SIMULATED_S,
    SLOWER,
    Floats,
    Scenario,
    Seen,
    subsets,
    weighted_p99,
)
from balancing.weights import UPDATE_S, Weights
from lossd_server.rpc.utilization import LoadSample, Utilization

# docs/decisions/0019: of the server's time.
SERVICE_S = 13e-6
# Where each client knows each server, one in ten stands for ten.
STANDS_FOR = 10
STEP_S, SAMPLE_EVERY = 0.05, 2
UPDATE_EVERY = round(UPDATE_S / STEP_S)
# Above this the formula has no end; the line that grows is counted by itself.
MOST_USED = 0.99


class SmallCalls:
    def __init__(self, scenario: Scenario, policy: str, seed: int = 1) -> None:
        self._scenario, self._policy = scenario, policy
        self._drawn = np.random.default_rng(seed)
        self._environment = simpy.Environment()
        every = 1 if policy == "weighted of 20" else STANDS_FOR
        total = scenario.load * SERVERS / SERVICE_S
        self._rates = scenario.rates(total, CLIENTS)[::every]
        self._for_all = total / self._rates.sum()
        self._known = subsets(policy, len(self._rates), self._drawn)
        self._struck = self._drawn.permutation(SERVERS)  # in the order in which it befalls them
        self._slower = np.ones(SERVERS)
        self._back_s = np.zeros(SERVERS)
        self._line_s = np.zeros(SERVERS)
        self._busy_s, self._answered = np.zeros(SERVERS), np.zeros(SERVERS)
        self._reports = [Utilization(LoadSample(0.0, 0.0, 0.0, 0.0, 0.0, 0)) for _ in range(SERVERS)]
        self._weights = Weights(*self._known.shape) if policy.startswith("weighted") else None
        self._shares = np.full(self._known.shape, 1 / self._known.shape[1], np.float32)
        self._latency_s = np.full(SERVERS, SERVICE_S)
        self._seen: list[tuple[float, Floats, Floats, Floats]] = []

    def run(self) -> Seen:
        self._environment.process(self._stepping())
        self._environment.process(self._happening())
        self._environment.run(until=SIMULATED_S)
        seconds = np.arange(SIMULATED_S)
        each = [[one for one in self._seen if at <= one[0] < at + 1] for at in seconds]
        over_time = [weighted_p99(*self._latencies(some)) for some in each]
        greatest = [np.mean([used for _, _, _, used in some], axis=0).max() for some in each]
        p99_s = weighted_p99(*self._latencies([one for one in self._seen if one[0] >= COUNTED_S]))
        return Seen(p99_s, float(max(greatest[int(COUNTED_S) :])), seconds, np.array(over_time))

    @staticmethod
    def _latencies(some: list[tuple[float, Floats, Floats, Floats]]) -> tuple[Floats, Floats]:
        return np.concatenate([one[1] for one in some]), np.concatenate([one[2] for one in some])

    def _stepping(self) -> Generator[Any, Any, None]:
        step = 0
        while True:
            now_s = self._environment.now
            alive = self._back_s <= now_s
            calls = self._dealt(alive)
            took_s = SERVICE_S * self._slower
            used = calls * took_s  # of each second
            self._line_s = np.maximum(0.0, self._line_s + (used - 1.0) * STEP_S) * alive
            if self._policy == "ideal queue":  # one line before all
                self._line_s[:] = self._line_s.sum() / max(1, alive.sum())
            within = np.minimum(used, MOST_USED)
            waits_s = 0.0 if self._policy == "ideal queue" else within / (2 * (1 - within)) * took_s
            self._latency_s = self._line_s + waits_s + took_s
            self._seen.append((now_s, self._latency_s[alive], calls[alive], used))
            does = np.where(self._line_s > 0, 1.0, np.minimum(used, 1.0)) * alive
            self._busy_s += does * STEP_S
            self._answered += does / took_s * STEP_S
            if step % SAMPLE_EVERY == 0:
                self._sample(now_s)
            if self._weights is not None and step % UPDATE_EVERY == 0:
                self._weigh(self._weights, now_s, alive)
            step += 1
            yield self._environment.timeout(STEP_S)

    def _dealt(self, alive: Any) -> Floats:
        """Calls a second at each server."""
        total = self._for_all * self._rates.sum()
        if self._policy == "ideal queue":
            could = alive / self._slower
            return np.asarray(total * could / could.sum())
        if self._policy == "round robin":
            return np.asarray(total * alive / alive.sum())
        if self._policy == "least of two":
            return self._least_of_two(alive)
        shares = self._shares * alive[self._known]
        each = shares * (self._for_all * self._rates / np.maximum(shares.sum(1), 1e-9))[:, None]
        return np.asarray(np.bincount(self._known.ravel(), each.ravel(), SERVERS), float)

    def _least_of_two(self, alive: Any) -> Floats:
        """Each client goes by its own calls under way, of which it has rate × latency at each server, by chance: it
        goes where it has none, or to either. Clients of like rates are taken together."""
        calls = np.zeros(SERVERS)
        for group in np.array_split(self._rates, 50):
            under_way = group.mean() / SERVERS * self._latency_s
            free = np.exp(-under_way) * alive
            calls += self._for_all * group.sum() * free / free.sum()
        return calls

    def _sample(self, now_s: float) -> None:
        for report, line_s, busy_s, answered in zip(
            self._reports, self._line_s, self._busy_s, self._answered, strict=True
        ):
            report.observe(LoadSample(now_s, float(line_s), 0.0, float(busy_s), 0.0, int(answered)))

    def _weigh(self, weights: Weights, now_s: float, alive: Any) -> None:
        told = np.array([one.calls_a_second / one.told if one.told > 0 else 0.0 for one in self._reports])
        calls = self._rates[:, None] * self._shares * np.float32(UPDATE_S)
        heard = self._drawn.random(calls.shape, np.float32) < -np.expm1(-calls)
        weights.tell_all(heard & alive[self._known], told[self._known], now_s)
        weights.forget(~alive[self._known])
        weights.update(slice(None), now_s)
        scaled = weights.scaled.astype(np.float32)
        self._shares = scaled / scaled.sum(1, keepdims=True)

    def _happening(self) -> Generator[Any, Any, None]:
        yield self._environment.timeout(EVENT_S)
        self._slower[self._struck[: int(SERVERS * self._scenario.slow)]] = SLOWER
        gone = self._struck[: int(SERVERS * self._scenario.gone)]
        self._back_s[gone] = EVENT_S + AWAY_S + self._drawn.random(len(gone))

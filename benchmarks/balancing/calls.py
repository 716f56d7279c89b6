"""Large calls, each an event of its own: 16 MB, which a server computes one after the other."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
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
    Scenario,
    Seen,
    subsets,
)
from balancing.weights import FULL, UPDATE_S, Weights
from lossd_server.rpc.load_sampler import SAMPLE_S
from lossd_server.rpc.utilization import LoadSample, Utilization

# benchmarks/ray_serve.py: 125 a second of one thread, and 32 fit the memory that a server gives to requests.
SERVICE_S, MOST_HELD = 0.008, 32
RETRY_S = 0.05
# Clients whose weights are made at one time.
TOGETHER = 100


class LargeServer:
    """A line, and what is told of it."""

    def __init__(self) -> None:
        self.alive = True
        self.lives = 0
        self.slower = 1.0
        self.restart(0.0)
        self.work_s = np.zeros(int(SIMULATED_S) + 1)  # given in each second, over what it can do

    def restart(self, now_s: float) -> None:
        self.lives += 1
        self.free_s = now_s
        self.in_flight = self.answered = 0
        self.busy_s = 0.0
        self.utilization = Utilization(LoadSample(now_s, 0.0, 0.0, 0.0, 0.0, 0))

    def take(self, now_s: float) -> float:
        """When a call that comes now is answered."""
        took_s = SERVICE_S * self.slower
        self.work_s[int(now_s)] += took_s
        self.free_s = max(self.free_s, now_s) + took_s
        self.in_flight += 1
        return self.free_s

    def sample(self, now_s: float) -> None:
        waits_s = max(0.0, self.free_s - now_s)
        busy_s = self.busy_s
        self.utilization.observe(LoadSample(now_s, waits_s, self.in_flight / MOST_HELD, busy_s, 0.0, self.answered))

    @property
    def weight(self) -> float:
        told = self.utilization.told
        return self.utilization.calls_a_second / told if told > 0 else 0.0


class LargeCalls:
    def __init__(self, scenario: Scenario, policy: str, seed: int = 1) -> None:
        self._scenario = scenario
        self._random = random.Random(seed)
        self._drawn = np.random.default_rng(seed)
        self._environment = simpy.Environment()
        self._servers = [LargeServer() for _ in range(SERVERS)]
        self._known = subsets(policy, CLIENTS, self._drawn)
        self._each = self._known.shape[1]
        self._weights = Weights(CLIENTS, self._each) if policy.startswith("weighted") else None
        self._scaled = self._weights.scaled.data if self._weights else None
        self._numbers = self._known.data
        # Where each client is in its round over its servers.
        self._next = [self._random.randrange(self._each * FULL) for _ in range(CLIENTS)]
        self._outstanding: dict[tuple[int, int], int] = {}
        self._pick: Callable[[int], int] = {
            "weighted": self._by_weight,
            "weighted of 20": self._by_weight,
            "round robin": self._in_turn,
            "least of two": self._least_of_two,
            "ideal queue": self._first_free,
        }[policy]
        self._struck = self._random.sample(range(SERVERS), SERVERS)  # in the order in which it befalls them
        # The places of those that are there: of each client's own, and for which change of them.
        self._changes = 0
        self._there: dict[int, tuple[int, list[int]]] = {}
        self._free = [(0.0, one) for one in range(SERVERS)]
        self._began_s: list[float] = []
        self._took_s: list[float] = []

    def run(self) -> Seen:
        environment = self._environment
        environment.process(self._calling())
        environment.process(self._happening())
        for server in self._servers:
            environment.process(self._sampling(server))
        if self._weights is not None:
            for first in range(0, CLIENTS, TOGETHER):
                environment.process(self._weighing(self._weights, slice(first, first + TOGETHER)))
        environment.run(until=SIMULATED_S)
        began_s, took_s = np.array(self._began_s), np.array(self._took_s)
        seconds = np.arange(SIMULATED_S)
        over_time = [np.quantile(took_s[(began_s >= at) & (began_s < at + 1)], 0.99) for at in seconds]
        work = np.array([one.work_s for one in self._servers])
        counted = slice(int(COUNTED_S), int(SIMULATED_S))
        p99_s = float(np.quantile(took_s[began_s >= COUNTED_S], 0.99))
        return Seen(p99_s, float(work[:, counted].max()), seconds, np.array(over_time))

    def _calling(self) -> Generator[Any, Any, None]:
        """All clients' calls, which come by chance."""
        total = self._scenario.load * SERVERS / SERVICE_S
        rates = self._scenario.rates(total, CLIENTS)
        while True:
            clients = self._drawn.choice(CLIENTS, 100_000, p=rates / total)
            for client, wait_s in zip(
                clients.tolist(), self._drawn.exponential(1 / total, 100_000).tolist(), strict=True
            ):
                yield self._environment.timeout(wait_s)
                self._call(client, self._environment.now)

    def _call(self, client: int, began_s: float, index: int = -1) -> None:
        """index: among all, of one that was begun before."""
        now_s = self._environment.now
        place = self._pick(client)
        number: int = self._numbers[client, place]
        server, lives = self._servers[number], self._servers[number].lives
        answered_s = server.take(now_s)
        # Known at once, since nobody overtakes: calls that are still in line at the end count too.
        if index < 0:
            index = len(self._took_s)
            self._began_s.append(began_s)
            self._took_s.append(0.0)
        self._took_s[index] = answered_s - began_s
        if self._pick == self._first_free:
            heapq.heappush(self._free, (answered_s, number))
        elif self._pick == self._least_of_two:
            self._outstanding[client, number] = self._outstanding.get((client, number), 0) + 1

        def ended(_: Any) -> None:
            if self._pick == self._least_of_two:
                self._outstanding[client, number] -= 1
            if server.lives != lives:  # it was killed meanwhile
                again = self._environment.timeout(RETRY_S)
                assert again.callbacks is not None
                again.callbacks.append(lambda _: self._call(client, began_s, index))
                return
            server.in_flight -= 1
            server.answered += 1
            server.busy_s += SERVICE_S * server.slower
            if self._weights is not None:
                self._weights.tell(client, place, server.weight, self._environment.now)

        answer = self._environment.timeout(answered_s - now_s)
        assert answer.callbacks is not None
        answer.callbacks.append(ended)

    def _by_weight(self, client: int) -> int:
        """gRPC's static stride scheduler: in turn, and those with less weight are passed over so often."""
        assert self._scaled is not None
        turn, there = self._next[client], self._places(client)
        while True:
            turn += 1
            place, generation = there[turn % len(there)], turn // len(there)
            weight = self._scaled[client, place]
            if (weight * generation + place * (FULL // 2)) % FULL >= FULL - weight:
                self._next[client] = turn
                return place

    def _in_turn(self, client: int) -> int:
        self._next[client] += 1
        there = self._places(client)
        return there[self._next[client] % len(there)]

    def _places(self, client: int) -> list[int]:
        """Of the servers that the client has a connection to: gRPC's picker is made anew with each change."""
        key = client if self._each < SERVERS else -1
        changes, there = self._there.get(key, (-1, []))
        if changes != self._changes:
            there = [place for place, one in enumerate(self._known[client].tolist()) if self._servers[one].alive]
            self._there[key] = self._changes, there
        return there or list(range(self._each))

    def _least_of_two(self, client: int) -> int:
        """By what the client itself has under way at each: it knows no more."""
        first, second = self._some(), self._some()
        outstanding = self._outstanding
        return second if outstanding.get((client, second), 0) < outstanding.get((client, first), 0) else first

    def _some(self) -> int:
        while True:
            number = self._random.randrange(SERVERS)
            if self._servers[number].alive:
                return number

    def _first_free(self, _: int) -> int:
        """One line for all servers."""
        while True:
            free_s, number = heapq.heappop(self._free)
            server = self._servers[number]
            if server.alive:
                if free_s >= server.free_s:
                    return number
                heapq.heappush(self._free, (server.free_s, number))

    def _sampling(self, server: LargeServer) -> Generator[Any, Any, None]:
        while True:
            yield self._environment.timeout(self._random.uniform(0.5, 1.5) * SAMPLE_S)
            server.sample(self._environment.now)

    def _weighing(self, weights: Weights, rows: slice) -> Generator[Any, Any, None]:
        yield self._environment.timeout(self._random.uniform(0, UPDATE_S))
        while True:
            weights.update(rows, self._environment.now)
            yield self._environment.timeout(UPDATE_S)

    def _happening(self) -> Generator[Any, Any, None]:
        yield self._environment.timeout(EVENT_S)
        for number in range(int(SERVERS * self._scenario.slow)):
            self._servers[self._struck[number]].slower = SLOWER
        for number in range(int(SERVERS * self._scenario.gone)):
            self._environment.process(self._restarting(self._struck[number]))

    def _restarting(self, number: int) -> Generator[Any, Any, None]:
        server = self._servers[number]
        server.alive = False
        self._changes += 1
        server.lives += 1
        if self._weights is not None:
            self._weights.forget(self._known == number)
        yield self._environment.timeout(AWAY_S + self._random.random())
        server.restart(self._environment.now)
        server.alive = True
        self._changes += 1
        heapq.heappush(self._free, (self._environment.now, number))

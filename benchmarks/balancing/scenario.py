"""Scenario: how many servers and clients, what they do to each other, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SERVERS, CLIENTS = 1_000, 10_000
SIMULATED_S = 11.0
# When servers become slow or go, and from when what happens counts: weights begin after the first second.
EVENT_S, COUNTED_S = 3.0, 2.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """load: of all servers together, of which 1 is all that they can do. skew: exponent of Zipf's law over clients'
    rates. slow: share of the servers that take SLOWER times as long from EVENT_S on. gone: share of those that are
    killed then, and back after AWAY_S to AWAY_S + 1 seconds.
    """

    name: str
    load: float
    skew: float = 0.0
    slow: float = 0.0
    gone: float = 0.0

    def rates(self, total: float, clients: int) -> Floats:
        """Calls a second of each client, of `total` of all."""
        shares = np.arange(1, clients + 1, dtype=float) ** -self.skew
        return np.asarray(total * shares / shares.sum())


SLOWER = 3.0
AWAY_S = 2.0
SCENARIOS = (
    Scenario("even", 0.7),
    Scenario("skew", 0.7, skew=0.5),
    Scenario("slow servers", 0.6, slow=0.1),
    Scenario("restart storm", 0.6, gone=0.3),
)
POLICIES = ("weighted", "weighted of 20", "round robin", "least of two", "ideal queue")
# What each client of `weighted of 20` knows: so many servers, by chance.
SUBSET = 20


def subsets(policy: str, clients: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """The servers of each client, (clients, servers of each)."""
    if policy != "weighted of 20":
        return np.broadcast_to(np.arange(SERVERS), (clients, SERVERS))
    return np.argpartition(generator.random((clients, SERVERS), np.float32), SUBSET)[:, :SUBSET]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run showed. p99_s: of all calls since COUNTED_S. greatest: utilisation of the busiest server over any
    second: the work that it was given over what it can do. at_s, p99_over_time_s: of calls that began in that second.
    """

    p99_s: float
    greatest: float
    at_s: Floats
    p99_over_time_s: Floats


def weighted_p99(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, 0.99 * passed[-1])])

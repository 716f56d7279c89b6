"""Times peers side by side, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter

MIN_ROUND_S = 0.02


def repeats(call: Callable[[], object]) -> int:
    """How often a round makes this call, so that it takes 20 ms or more. The first call warms caches up."""
    call()
    start = perf_counter()
    call()
    return max(1, round(MIN_ROUND_S / max(perf_counter() - start, 1e-7)))


def medians(peers: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of one call of each peer: the median of `rounds` rounds, the peers taking turns in each.

    The order turns around from round to round, so that no peer always runs after the same one.
    """
    times = {name: repeats(call) for name, call in peers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        for name in list(peers)[:: 1 if number % 2 == 0 else -1]:
            gc.collect()
            start = perf_counter()
            for _ in range(times[name]):
                peers[name]()
            seconds[name].append((perf_counter() - start) / times[name])
    return {name: median(taken) for name, taken in seconds.items()}

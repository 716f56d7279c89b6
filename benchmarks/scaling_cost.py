"""What each step from one process to many machines costs a call, all of them on this machine.

    PYTHONPATH=client:server:benchmarks python benchmarks/scaling_cost.py

Two minutes. RAY_PYTHON: the interpreter that has Ray (.venv/ray/bin/python); without it that step is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import lossd
from ray_serve import PYTHON, cluster
from servers import LOSSD, running

ROUNDS, TURN_S, AT_ONCE = 7, 0.5, 32
RANDOM = np.random.default_rng(7)
SMALL = RANDOM.normal(size=(8, 16)).astype(np.float32), RANDOM.integers(0, 16, 8)
LARGE = RANDOM.normal(size=(1000, 4000)).astype(np.float32), RANDOM.integers(0, 4000, 1000)
SERVER = [*LOSSD, "--device", "cpu", "--threads", "1"]


def one_at_a_time(client: lossd.Client, logits: npt.NDArray[Any], target: npt.NDArray[Any]) -> float:
    """Seconds of a call."""
    client.cross_entropy(logits, target, transport="unary")
    count, start_s = 0, time.perf_counter()
    while time.perf_counter() < start_s + TURN_S:
        client.cross_entropy(logits, target, transport="unary")
        count += 1
    return (time.perf_counter() - start_s) / count


async def a_second(address: str) -> float:
    """Small calls, AT_ONCE under way, each by itself."""
    async with lossd.aio.Client(address) as client:
        count, counts = 0, False

        async def calls() -> None:
            nonlocal count
            while not over.is_set():
                await client.cross_entropy(*SMALL, transport="unary")
                count += counts

        over = asyncio.Event()
        tasks = [asyncio.create_task(calls()) for _ in range(AT_ONCE)]
        await asyncio.sleep(1.0)  # until there are as many connections as there will be
        counts, start_s = True, time.perf_counter()
        await asyncio.sleep(TURN_S)
        counts, took_s = False, time.perf_counter() - start_s
        over.set()
        await asyncio.gather(*tasks)
        return count / took_s


def main() -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running(SERVER)) for _ in range(2))
        steps = {
            "one process": first,
            "`--workers 2`": stack.enter_context(running([*SERVER[:-1], "2", "--workers", "2"])),
            "a list of one and one that is gone": f"{first},127.0.0.1:1",
            "a list of two": f"{first},{second}",
        }
        if Path(PYTHON).exists():
            steps["`ray://`, one replica"] = stack.enter_context(cluster())[0]
        clients = {name: stack.enter_context(lossd.Client(address)) for name, address in steps.items()}
        measures: list[Callable[[str], float]] = [
            lambda name: one_at_a_time(clients[name], *SMALL) * 1e6,
            lambda name: one_at_a_time(clients[name], *LARGE) * 1e3,
            lambda name: asyncio.run(a_second(steps[name])),
        ]
        found: dict[str, list[list[float]]] = {name: [[] for _ in measures] for name in steps}
        for number in range(ROUNDS):
            for name in list(steps)[:: 1 if number % 2 == 0 else -1]:
                for measure, values in zip(measures, found[name], strict=True):
                    values.append(measure(name))
        print(f"| | µs, a small call alone | ms, 16 MB alone | small calls/s, {AT_ONCE} at once |\n|---|---|---|---|")
        for name, (small, large, rate) in found.items():
            print(f"| {name} | {median(small):.0f} | {median(large):.1f} | {median(rate):,.0f} |")


if __name__ == "__main__":
    main()

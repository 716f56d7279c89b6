"""The machine that figures were taken on: its processor, versions, and how fast it moves memory."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter

import numpy as np

MOVED_BYTES = 512 << 20  # far above any cache
ROUNDS = 7
BUSY_LOAD = 0.5


def threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions(*distributions: str) -> dict[str, str]:
    """Python's version and those of the distributions that are installed."""
    found = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def copy_bandwidth() -> float:
    """GB/s that plain copies on every core reach, bytes read and bytes written both counted. Median of 7."""
    count = threads()
    source = np.ones(MOVED_BYTES // 4, np.float32)
    target = np.empty_like(source)
    pieces = list(zip(np.array_split(target, count), np.array_split(source, count), strict=True))
    seconds = []
    with ThreadPoolExecutor(count) as pool:
        for _ in range(ROUNDS + 1):  # the first one pays for the pages
            start = perf_counter()
            wait([pool.submit(np.copyto, to, origin) for to, origin in pieces])
            seconds.append(perf_counter() - start)
    return 2 * MOVED_BYTES / median(seconds[1:]) / 1e9


def read_bandwidth() -> float:
    """GB/s that torch.sum reads with every core. Median of 7."""
    import torch

    source = torch.ones(MOVED_BYTES // 4)
    seconds = []
    for _ in range(ROUNDS + 1):
        start = perf_counter()
        source.sum()
        seconds.append(perf_counter() - start)
    return MOVED_BYTES / median(seconds[1:]) / 1e9


def describe(*distributions: str) -> str:
    """The head of a report, with a warning where other work keeps the machine busy."""
    listed = ", ".join(f"{name} {number}" for name, number in versions(*distributions).items())
    lines = [f"{processor()}, {threads()} threads", listed]
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        # Seen at a load of 6 on 2 cores: torch's threads wait for each other and take 30 ms for what takes 40 µs.
        lines.append(f"WARNING: the machine is busy (load {load:.1f}): no figure of this run says much, ratios neither")
    return "\n".join(lines)

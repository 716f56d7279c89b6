"""Calls on a list of servers until a line comes in: ADDRESS WAY. WAY: small, blocking, large or map.

Prints "begun" after the first answer, what failed, and at the end how many were answered, wrong and failed.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import lossd

Array: TypeAlias = "npt.NDArray[Any]"

AT_ONCE = 8
# For `large`: above what a message may have, so that it goes in blocks on a stream.
SIZES = {"small": (8, 16), "blocking": (8, 16), "large": (1200, 5000), "map": (8, 16)}


class Counts:
    def __init__(self, expected: float) -> None:
        self.expected = expected
        self.answered = self.wrong = self.failed = 0
        self._lock = threading.Lock()

    def right(self, loss: float) -> None:
        with self._lock:
            self.answered += 1
            self.wrong += loss != self.expected
            if self.answered == 1:
                print("begun", flush=True)

    def wrongly(self, error: lossd.Error) -> None:
        with self._lock:
            self.failed += 1
            if self.failed <= 10:
                print(type(error).__name__, error, flush=True)


def main() -> None:
    address, way = sys.argv[1:3]
    random = np.random.default_rng(7)
    logits = random.normal(size=SIZES[way]).astype(np.float32)
    target = random.integers(0, logits.shape[1], len(logits))
    with lossd.Client(address.split(",")[0]) as one:
        counts = Counts(float(one.cross_entropy(logits, target)))
    over = threading.Event()
    threading.Thread(target=await_line, args=(over,), daemon=True).start()
    if way == "blocking":
        blocking(address, logits, target, counts, over)
    else:
        asyncio.run(calling(address, way, logits, target, counts, over))
    print(counts.answered, counts.wrong, counts.failed)


def await_line(over: threading.Event) -> None:
    sys.stdin.readline()
    over.set()


def blocking(address: str, logits: Array, target: Array, counts: Counts, over: threading.Event) -> None:
    with lossd.Client(address) as client:

        def call() -> None:
            while not over.is_set():
                try:
                    counts.right(float(client.cross_entropy(logits, target)))
                except lossd.Error as error:
                    counts.wrongly(error)

        threads = [threading.Thread(target=call) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


async def calling(address: str, way: str, logits: Array, target: Array, counts: Counts, over: threading.Event) -> None:
    async with lossd.aio.Client(address) as client:

        async def call() -> None:
            while not over.is_set():
                try:
                    counts.right(float(await client.cross_entropy(logits, target)))
                except lossd.Error as error:
                    counts.wrongly(error)

        async def items() -> AsyncIterator[tuple[Array, Array]]:
            for number in count():
                if over.is_set():
                    return
                if number % 64 == 63:
                    await asyncio.sleep(0.005)
                yield logits, target

        async def mapped() -> None:
            try:
                async for result in client.map("cross_entropy", items()):
                    counts.right(float(result))
            except lossd.Error as error:
                counts.wrongly(error)

        at_once = 2 if way == "large" else AT_ONCE
        await asyncio.gather(*([mapped(), mapped()] if way == "map" else [call() for _ in range(at_once)]))


if __name__ == "__main__":
    main()

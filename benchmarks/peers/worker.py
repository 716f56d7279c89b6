"""A peer's client as a process of its own: takes commands from standard input and answers on standard output.

A command is a line of JSON, [verb, {argument: value}]; so is its answer, {"found": …} or {"error": "…"}. Each client
has the same verbs, so that what is measured of one is measured of all.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np

from peers.case import Array, Case, WrongAnswer, read

SAMPLE_PAUSE_S = 0.05  # two in a hundred of a core
Evaluate = Callable[[Case], tuple[float, Array | None]]


def answer(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Until the commands end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            found = {"found": verbs[verb](**arguments)}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)


class Cases:
    """The cases that a client has read, by folder."""

    def __init__(self) -> None:
        self._read: dict[str, Case] = {}

    def __getitem__(self, folder: str) -> Case:
        if folder not in self._read:
            self._read[folder] = read(folder)
        return self._read[folder]

    def drop(self) -> None:
        self._read.clear()


def timed(evaluate: Callable[[], tuple[float, Array | None]], case: Case, times: int) -> list[float]:
    """Seconds of each of `times` evaluations; every answer is checked once its clock has stopped."""
    seconds = []
    for _ in range(times):
        start = perf_counter()
        loss, gradient = evaluate()
        seconds.append(perf_counter() - start)
        case.check(loss, gradient)
        del gradient
    return seconds


async def together(call: Callable[[], Awaitable[float]], case: Case, concurrency: int, count: int) -> dict[str, float]:
    """`count` calls, `concurrency` at a time: calls per second, and percentiles of their seconds. All are checked."""
    losses: list[float] = []
    seconds: list[float] = []
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            start = perf_counter()
            losses.append(await call())
            seconds.append(perf_counter() - start)

    start = perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    whole = perf_counter() - start
    for loss in losses:
        case.check(loss)
    p50, p99 = np.percentile(seconds, (50, 99))
    return {"per_s": count / whole, "p50_s": float(p50), "p99_s": float(p99)}


class Sampler:
    """Makes a call now and then while another client loads the server, and reads its answer."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._found = {"calls": 0, "failed": 0, "wrong": 0}

    def start(self, call: Callable[[], float], case: Case) -> None:
        self._done.clear()
        self._found = {"calls": 0, "failed": 0, "wrong": 0}
        self._thread = threading.Thread(target=self._run, args=(call, case), daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """How many calls were made; how many had a status other than OK; how many a wrong answer."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        return self._found

    def _run(self, call: Callable[[], float], case: Case) -> None:
        while not self._done.wait(SAMPLE_PAUSE_S):
            self._found["calls"] += 1
            try:
                case.check(call())
            except WrongAnswer:
                self._found["wrong"] += 1
            except Exception:
                self._found["failed"] += 1

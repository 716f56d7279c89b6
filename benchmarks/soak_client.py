"""A client process of the soak: threads and an event loop that ask for all there is until their input ends.

`soak_client.py ADDRESS SEED` prints one JSON object in the end: counts, and what was wrong. With `victim` behind it, it
only asks for large things and waits to be killed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import faulthandler
import json
import os
import random
import sys
import threading
import time
import traceback
from typing import Any

import grpc
import numpy as np

import lossd
import lossd.aio
from lossd.options import Transport
from soak_cases import Case, large, tiny
from soak_refusals import Caller, refused

THREADS, TASKS = 3, 4
WAYS: tuple[Transport, ...] = ("unary", "stream", "shared_memory", "auto")
TIMEOUT_S = 60.0
# What a server that is full, or ends, may say at any time.
EXCUSED = (lossd.Overloaded, lossd.Unavailable)


class Tally:
    """Counts by name, and violations; `over` when nothing new is to be begun."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def fault(self, sentence: str) -> None:
        if sentence:
            with self._lock:
                self.faults.append(sentence)

    def erred(self, error: Exception) -> None:
        """An exception that no case expects."""
        if isinstance(error, EXCUSED):
            self.count(f"excused: {type(error).__name__}")
        elif isinstance(error, lossd.TooLarge) or " cannot be: " in str(error):
            self.count("cannot go that way")
        else:
            self.fault("".join(traceback.format_exception(error)[-4:]))


class Pool:
    """The cases of a process: made once, for the oracle is slow. Each answer's bits are those of the first."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.tiny = [tiny(rng) for _ in range(80)]
        self.large = [
            large(rng, size) for size in (40_000, 70_000, 300_000, 1 << 20, 3 << 20, 9 << 20, 20 << 20, 64 << 20)
        ]
        self.labels = [case for case in self.tiny if case.method == "cross_entropy"]

    def draw(self, rng: random.Random) -> Case:
        if rng.random() < 0.8:
            return rng.choice(self.tiny)
        return self.large[min(rng.randrange(8), rng.randrange(8))]


def asked(case: Case, way: str) -> dict[str, Any]:
    """Options of a call that goes that way. Shared memory may be off: then it says so, which "auto" does not."""
    return {**case.options, "transport": way}


def work(address: str, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """One thread: a client of its own now and then."""
    while not tally.over.is_set():
        with lossd.Client(address, timeout=TIMEOUT_S) as client:
            for _ in range(rng.randrange(20, 200)):
                if tally.over.is_set():
                    return
                act = rng.choices((call, bad, hurried, lent, mapped), (70, 8, 6, 8, 8))[0]
                try:
                    act(client, pool, rng, tally)
                except Exception as error:
                    tally.erred(error)
                    if isinstance(error, lossd.Unavailable):
                        time.sleep(0.05)


def call(client: lossd.Client, pool: Pool, rng: random.Random, tally: Tally) -> None:
    case, way = pool.draw(rng), rng.choice(WAYS)
    tally.fault(case.fault(getattr(client, case.method)(*case.operands, **asked(case, way))))
    tally.count(way)


def bad(client: lossd.Client, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """A class that there is not: refused by its index, whatever way it goes."""
    rows, classes = rng.choice([(4, 3), (3000, 10), (900, 1000)])
    x, y = np.ones((rows, classes), np.float32), np.zeros(rows, np.int64)
    wrong = rng.randrange(rows)
    y[wrong] = classes
    try:
        client.cross_entropy(x, y, transport=rng.choice(WAYS), reduction=rng.choice(["sum", "none"]))
    except lossd.TooLarge:
        tally.count("cannot go that way")
    except lossd.InvalidArgument as error:
        if error.field != "target" or f"target[{wrong}]" not in error.message:
            tally.fault(f"a bad class at {wrong} of {rows} is refused with {error.message!r}, field {error.field!r}")
        tally.count("refused")
    else:
        tally.fault("a class out of range was taken")


def hurried(client: lossd.Client, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """A call whose time may be over at any point of its way."""
    case = pool.draw(rng)
    try:
        answer = getattr(client, case.method)(
            *case.operands, **asked(case, rng.choice(WAYS)), timeout=10 ** rng.uniform(-4, -1)
        )
    except lossd.DeadlineExceeded:
        tally.count("timed out")
    else:
        tally.fault(case.fault(answer))
        tally.count("in time")


def lent(client: lossd.Client, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """From memory that the server knows, and a gradient into such."""
    case = pool.draw(rng)
    operands = []
    for one in case.operands:
        array = client.empty(one.shape, one.dtype)
        array[...] = one
        operands.append(array)
    options = asked(case, "auto")
    out = None
    if options.get("grad"):
        out = options["out"] = client.empty(case.operands[0].shape, case.operands[0].dtype)
    answer = getattr(client, case.method)(*operands, **options)
    if out is not None and answer.grad is not out:
        tally.fault("the gradient is not in the array that was given for it")
    tally.fault(case.fault(answer))
    tally.count("lent")


def mapped(client: lossd.Client, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """Many at once, some of them wrong, now and then left in the middle."""
    good = [case for case in pool.labels if case.options.get("reduction") == "mean" and len(case.options) == 2]
    if not good:
        return
    items: list[tuple[Case | None, tuple[Any, ...]]] = []
    for _ in range(rng.randrange(5, 120)):
        case = rng.choice(good)
        wrong = rng.random() < 0.1
        items.append((None, (case.operands[0], np.full_like(case.operands[1], 99))) if wrong else (case, case.operands))
    leave = rng.randrange(len(items)) if rng.random() < 0.2 else len(items)
    answers = client.map(
        "cross_entropy", [{"input": item[0], "target": item[1], **(case or good[0]).options} for case, item in items],
        errors="yield", timeout=TIMEOUT_S, window=rng.choice([1, 8, 256]),
    )  # fmt: skip
    place = 0
    for place, (answer, (right, _)) in enumerate(zip(answers, items, strict=False), 1):
        if isinstance(answer, EXCUSED):
            tally.count("excused: map")
        elif right is None:
            if not (isinstance(answer, lossd.InvalidArgument) and answer.field == "target"):
                tally.fault(f"a bad item of a map came back as {answer!r}")
        elif isinstance(answer, Exception):
            tally.fault(f"a good item of a map came back as {answer!r}")
        else:
            tally.fault(right.fault(answer))
        tally.count("mapped")
        if place > leave:
            break
    else:
        if place != len(items):
            tally.fault(f"a map of {len(items)} items gave {place} answers")
    answers.close()  # type: ignore[attr-defined]


def refusals(address: str, limited: str, rng: random.Random, tally: Tally) -> None:
    """One thread: calls that are to be refused, over a channel of their own now and then."""
    known = (("authorization", f"Bearer {os.environ['LOSSD_TOKEN']}"),)
    few = (("authorization", f"Bearer {limited}"),)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    while not tally.over.is_set():
        with grpc.insecure_channel(address, options=options) as channel:
            caller = Caller(channel, known, few, rng)
            for _ in range(rng.randrange(5, 60)):
                if tally.over.is_set():
                    return
                name, fault = refused(caller)
                tally.count(f"refused: {name}")
                tally.fault(fault)
                time.sleep(0.005)  # beside the others, not in place of them


async def loop(address: str, pool: Pool, rng: random.Random, tally: Tally) -> None:
    """The awaited client, whose calls are cancelled now and then."""
    async with lossd.aio.Client(address, timeout=TIMEOUT_S) as client:

        async def one() -> None:
            while not tally.over.is_set():
                case, way = pool.draw(rng), rng.choice(WAYS)
                task = asyncio.ensure_future(getattr(client, case.method)(*case.operands, **asked(case, way)))
                if rng.random() < 0.1:
                    await asyncio.wait([task], timeout=10 ** rng.uniform(-4, -1.5))
                    task.cancel()
                try:
                    tally.fault(case.fault(await task))
                    tally.count(f"aio {way}")
                except asyncio.CancelledError:
                    tally.count("cancelled")
                except Exception as error:
                    tally.erred(error)
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(one() for _ in range(TASKS)))


def victim(address: str, rng: random.Random) -> None:
    """Large calls by every way, until somebody kills the process."""
    cases = [large(rng, 8 << 20) for _ in range(3)]

    def some(way: str) -> None:
        with lossd.Client(address) as client:
            while True:
                for case in cases:
                    with contextlib.suppress(lossd.Error):
                        getattr(client, case.method)(*case.operands, **asked(case, way))

    for way in WAYS:
        threading.Thread(target=some, args=(way,), daemon=True).start()
    sys.stdin.read()


def main() -> None:
    address, seed, limited = sys.argv[1], int(sys.argv[2]), os.environ["SOAK_LIMITED_TOKEN"]
    faulthandler.register(10, all_threads=True)  # SIGUSR1: where everybody is
    if len(sys.argv) > 3:
        victim(address, random.Random(seed))
        return
    pool, tally = Pool(seed), Tally()
    print("ready", flush=True)
    threads = [
        threading.Thread(
            target=work, args=(address, pool, random.Random(seed + n), tally), name=f"soak-{n}", daemon=True
        )
        for n in range(THREADS)
    ]
    threads.append(
        threading.Thread(
            target=lambda: asyncio.run(loop(address, pool, random.Random(seed + 99), tally)),
            name="soak-aio",
            daemon=True,
        )
    )
    threads.append(
        threading.Thread(
            target=refusals,
            args=(address, limited, random.Random(seed + 77), tally),
            name="soak-refusals",
            daemon=True,
        )
    )
    for thread in threads:
        thread.start()
    sys.stdin.read()
    tally.over.set()
    end = time.monotonic() + TIMEOUT_S + 30
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            tally.fault(f"{thread.name} hangs")
            faulthandler.dump_traceback(all_threads=True)
    print(json.dumps({"counts": tally.counts, "faults": tally.faults[:20], "faulty": len(tally.faults)}), flush=True)


if __name__ == "__main__":
    main()

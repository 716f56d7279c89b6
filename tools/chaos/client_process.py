"""A client process: threads of the blocking client and a loop of the asynchronous one, until its input ends.

`python -m chaos.client_process SPEC` says a record for each operation, and what it holds when all clients are closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lossd
import lossd.aio
from chaos.leaks import leaked
from chaos.load import GRACE_S, LOOK_S, MAP_S, Draw, Load, Spec, called, opened
from chaos.processes import Holdings, holdings
from chaos.raw_load import ask_raw
from chaos.routes import Route, ways

THREADS, TASKS = 2, 8
# With its clients closed, until gRPC has closed the last socket and ended its threads.
SETTLE_S = 15.0
# After a failure a loop of threads or tasks lets others go on.
PAUSE_S = 0.02


def blocking(load: Load, rng: random.Random) -> None:
    """One thread: a client for some operations, then the next. Now and then another thread closes it under way."""
    while not load.over.is_set():
        route = rng.choice(load.spec.routes)
        client = opened(lossd.Client, route)
        closer = threading.Timer(10 ** rng.uniform(-2, 0.3), client.close) if rng.random() < 0.1 else None
        if closer is not None:
            closer.start()
        for _ in range(rng.randrange(5, 60)):
            if load.over.is_set() or not _ask(load, client, load.draw(route, rng, cancels=False), closer is not None):
                break
        if closer is not None:
            closer.cancel()
            closer.join()
        client.close()


def _ask(load: Load, client: lossd.Client, draw: Draw, closing: bool) -> bool:
    """Whether to go on with this client: not where its server is away, or nothing else is asked for as long."""
    begun = load.begin(draw)
    try:
        answer = called(client, draw)
        load.answered(draw, begun, answer)
    except Exception as error:
        load.failed(draw, begun, error, closing)
        time.sleep(PAUSE_S)
        return not isinstance(error, lossd.Unavailable)
    return True


async def asynchronous(load: Load, rng: random.Random) -> None:
    """Tasks that share a client, for some operations each; then the next client, some of them closed under way."""
    while not load.over.is_set():
        route = rng.choice(load.spec.routes)
        client = opened(lossd.aio.Client, route)
        early = rng.random() < 0.15
        seeds = [rng.getrandbits(32) for _ in range(TASKS)]
        tasks = [asyncio.ensure_future(_task(load, client, route, random.Random(seed), early)) for seed in seeds]
        if early:
            await asyncio.wait(tasks, timeout=10 ** rng.uniform(-2, 0.3))
            await client.close()
        await asyncio.gather(*tasks)
        await client.close()
        await _alone(load)


async def _alone(load: Load) -> None:
    """With its clients closed a loop has no task but this one."""
    end = time.monotonic() + SETTLE_S
    while len(found := asyncio.all_tasks()) > 1 and time.monotonic() < end:
        await asyncio.sleep(0.01)
    if len(found) > 1:
        load.say(json.dumps({"tasks": [repr(one)[:300] for one in found]}))


async def _task(load: Load, client: lossd.aio.Client, route: Route, rng: random.Random, closing: bool) -> None:
    for _ in range(rng.randrange(5, 60)):
        if load.over.is_set():
            return
        draw = load.draw(route, rng, cancels=True)
        begun = load.begin(draw)
        asked = asyncio.ensure_future(_answer(client, draw))
        if draw.cancel_after_s:
            await asyncio.wait([asked], timeout=draw.cancel_after_s)
            asked.cancel()
        try:
            load.answered(draw, begun, await asked)
        except (asyncio.CancelledError, Exception) as error:
            load.failed(draw, begun, error, closing)
            if isinstance(error, lossd.Unavailable):
                return
            await asyncio.sleep(PAUSE_S)


async def _answer(client: lossd.aio.Client, draw: Draw) -> Any:
    if draw.way == "map":
        return [one async for one in called(client, draw)]
    return await called(client, draw)


def raw(load: Load, rng: random.Random) -> None:
    """HTTP/2 without a client of lossd's: connections of its own, calls that it breaks off itself."""
    routes = [one for one in load.spec.routes if not one.ca and not one.address.startswith("unix:")]
    while routes and not load.over.is_set():
        ask_raw(load, rng.choice(routes), rng)


def warm(load: Load) -> None:
    """What a process has only after its first calls is no leak."""

    async def once(route: Route) -> None:
        async with opened(lossd.aio.Client, route) as client:
            await asyncio.gather(*(_quiet(client, Draw(route, (one,), "small")) for one in small))

    small = [one for one in load.table if one.is_small][:8]
    large = [one for one in load.table if not one.is_small]
    first = load.spec.routes[0]
    with opened(lossd.Client, first) as client, suppress(lossd.Error):
        for one in large:
            for way in ways(first, one, set(load.spec.impossible)):
                called(client, Draw(first, (one,), way))
    for route in load.spec.routes:
        with opened(lossd.Client, route) as client, suppress(lossd.Error):
            for one in small:
                called(client, Draw(route, (one,), "small"))
            client.empty((1000,))
        asyncio.run(once(route))


async def _quiet(client: lossd.aio.Client, draw: Draw) -> None:
    with suppress(lossd.Error):
        await called(client, draw)


def main() -> None:
    spec = Spec.of_json(json.loads(Path(sys.argv[1]).read_text()))
    faulthandler.enable()
    load = Load(spec)
    warm(load)
    before = _settled(None)
    load.say(json.dumps({"ready": True}))

    def seeded(name: str) -> random.Random:
        return random.Random(f"{spec.seed} {name}")

    def loop() -> None:
        asyncio.run(asynchronous(load, seeded("aio")))

    threads = [
        threading.Thread(target=blocking, args=(load, seeded(f"blocking {n}")), daemon=True, name=f"blocking-{n}")
        for n in range(THREADS)
    ]
    threads.append(threading.Thread(target=loop, daemon=True, name="aio"))
    threads.append(threading.Thread(target=raw, args=(load, seeded("raw")), daemon=True, name="raw"))

    def end() -> None:
        sys.stdin.read()
        load.over.set()

    for one in (*threads, threading.Thread(target=end, daemon=True)):
        one.start()
    looks_left = (MAP_S + 2 * GRACE_S) / LOOK_S  # counted, so that a stopped process has not used them up
    while any(one.is_alive() for one in threads) and not (load.hung and load.over.is_set()) and looks_left > 0:
        load.over.wait(LOOK_S)
        if load.over.is_set():
            looks_left -= 1
            time.sleep(LOOK_S)
        load.look()
    if load.hung or looks_left <= 0:
        faulthandler.dump_traceback(all_threads=True)
        load.say(json.dumps({"stuck": [one.name for one in threads if one.is_alive()]}))
    else:
        load.say(json.dumps({"warm": before, "end": _settled(before)}))
    os._exit(0)


def _settled(before: dict[str, int] | None) -> dict[str, int]:
    """What this process holds with its clients closed, once it is no more than before, or after a while."""
    end = time.monotonic() + (SETTLE_S if before else 1.0)
    while True:
        gc.collect()
        _trim()
        now = asdict(holdings(os.getpid()))
        if time.monotonic() > end or (before and not leaked("", Holdings(**before), Holdings(**now))):
            return now
        time.sleep(0.1)


def _trim() -> None:
    """What the allocator keeps of memory that was freed is no leak."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()

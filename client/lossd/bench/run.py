"""Runs a bench: connects, warms up, measures level after level."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from lossd import aio
from lossd.bench.drive import Driver
from lossd.bench.measured import Measured
from lossd.bench.plan import Load
from lossd.bench.progress import Progress
from lossd.bench.report import BenchReport
from lossd.bench.search import Search
from lossd.bench.senders import Mapper, Raw, Sender, ThroughClient, in_shared_memory, serving
from lossd.bench.windows import Rule, Verdict
from lossd.bench.workload import Mix, Request, order, requests
from lossd.info import ServerInfo
from lossd.rpc.credentials import credentials
from lossd.rpc.target import on_this_host

REACH_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """loads: the levels; if `rule` has a bound for p99, the first rate of a search. shared: tensors are in arrays of
    client.empty. thorough: all of every answer is compared. timeout_s: of a request.
    shown: the client's credentials, as it takes them.
    """

    address: str
    mix: Mix
    loads: Sequence[Load]
    rule: Rule
    transport: str = "auto"
    raw: bool = False
    mapped: bool = False
    shared: bool = False
    thorough: bool = False
    timeout_s: float = 10.0
    shown: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def searching(self) -> bool:
        return math.isfinite(self.rule.p99_s)

    @property
    def how(self) -> str:
        if self.raw:
            return "raw unary messages, built beforehand"
        made = ", arrays of client.empty" if self.shared else ""
        if self.mapped:
            return f"lossd.aio.Client.map, in windows of the concurrency{made}"
        return f"lossd.aio.Client, transport {self.transport}{made}"


def run_bench(plan: BenchPlan, progress: Progress) -> BenchReport:
    """Raises lossd.Error where the server cannot be reached or refuses the requests; CommandError."""
    progress.say("drawing requests")
    drawn = requests(plan.mix)
    for request in drawn:
        request.expected.thorough = plan.thorough
    with serving(plan.address) as address, asyncio.Runner(loop_factory=_exact_loop) as runner:
        return runner.run(_run(plan, address, drawn, progress))


def _exact_loop() -> asyncio.AbstractEventLoop:
    """A loop on select, whose timeouts are exact to microseconds; those of epoll are rounded up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _run(plan: BenchPlan, address: str, drawn: list[Request], progress: Progress) -> BenchReport:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aio.Client(address, timeout=plan.timeout_s, **plan.shown))
        progress.say("connecting")
        server = await client.info(timeout=REACH_S)
        sender: Sender
        if plan.raw:
            sender = raw = Raw(address, plan.timeout_s, credentials(address, on_this_host(address), **plan.shown))
            stack.push_async_callback(raw.close)
            for request in drawn:
                raw.prepare(request)
        else:
            sender = ThroughClient(client, plan.transport)
        if plan.shared:
            drawn = [await in_shared_memory(client, request) for request in drawn]
        mapper = Mapper(client, plan.mix) if plan.mapped else None
        driver = Driver(sender, drawn, order(plan.mix, drawn), plan.rule, plan.mix.seed, progress.window, mapper)
        progress.say("warming up")
        wrong = await driver.warm()
        report = await _levels(plan, driver, progress, server)
        return replace(report, warm_wrong=wrong, differing=sum(one.expected.differing for one in drawn))


async def _levels(plan: BenchPlan, driver: Driver, progress: Progress, server: ServerInfo) -> BenchReport:
    levels: list[Measured] = []
    search = Search(plan.loads[0].rate) if plan.searching else None
    loads, interrupted = list(plan.loads), False
    while loads and not interrupted:
        try:
            level = await driver.level(loads.pop(0))
        except asyncio.CancelledError:
            # Ctrl-C between two levels: those before it are reported.
            interrupted = True
            break
        levels.append(level)
        progress.level(level)
        interrupted = level.verdict is Verdict.INTERRUPTED
        if search is not None and not interrupted:
            search.tell(level.passed, certain=level.verdict is Verdict.HOPELESS)
            loads = [] if search.rate is None else [replace(plan.loads[0], rate=search.rate)]
    return BenchReport(
        mix=plan.mix,
        how=plan.how,
        address=plan.address,
        server=server,
        levels=sorted(levels, key=lambda level: level.load.size),
        searching=search is not None,
        p99_s=plan.rule.p99_s,
        best_rate=search.best if search is not None else 0.0,
        sentences=driver.sentences,
        interrupted=interrupted,
    )

"""The load generator: closed and open loops in asyncio, steered by plan, windows and tally."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from lossd import errors
from lossd.bench.measured import Measured, merged
from lossd.bench.plan import Load, due
from lossd.bench.senders import Mapper, Sender, TimedResult
from lossd.bench.tally import WRONG, Answered, Tally
from lossd.bench.windows import WINDOWS, Rule, Verdict
from lossd.bench.workload import Request
from lossd.results import Result

# Requests of an open loop that may be in flight. Those that are due beyond that wait, and their latency includes it.
MOST_REQUESTS, MOST_BYTES = 4096, 1 << 30
# After a level its last requests may finish for so long, so that the next level starts with an idle server.
DRAIN_S = 5.0
# How often to look again at a window that is long enough but has too few answers, as a share of its length.
_LOOK = 0.1

_STATUS: dict[type[errors.Error], str] = {
    errors.TooLarge: "RESOURCE_EXHAUSTED",
    errors.InvalidArgument: "INVALID_ARGUMENT",
    errors.Overloaded: "RESOURCE_EXHAUSTED",
    errors.Unavailable: "UNAVAILABLE",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.NotServed: "UNIMPLEMENTED",
}

# Called after every window with the load, the window, and the seconds since the level's start.
Progress = Callable[[Load, Tally, float], None]


class Driver:
    """Sends `requests`, in the order of `order`, at one load after another.

    sentences: the first message of each status that failed. mapper: used by closed loops instead of `sender`.
    """

    def __init__(
        self,
        sender: Sender,
        requests: Sequence[Request],
        order: Iterator[Request],
        rule: Rule,
        seed: int,
        progress: Progress,
        mapper: Mapper | None = None,
    ) -> None:
        self._sender = sender
        self._mapper = mapper
        self._requests = requests
        self._order = order
        self._most = min(MOST_REQUESTS, max(1, MOST_BYTES // max(one.nbytes for one in requests)))
        self._rule = rule
        self._seed = seed
        self._progress = progress
        self._tally = Tally()
        self._over = False
        self.sentences: dict[str, str] = {}

    async def warm(self) -> int:
        """Sends each request once, one after another; the number of wrong answers. Raises the first lossd.Error."""
        wrong = 0
        for request in self._requests:
            answer = await self._sender.send(request)
            wrong += not self._right(request, answer.result)
        return wrong

    async def level(self, load: Load) -> Measured:
        """Measures a level until the rule reaches a verdict or the task is cancelled."""
        self._tally = Tally()
        self._over = False
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            if load.open:
                dispatcher = group.create_task(self._dispatch(load, group, under_way))
            elif self._mapper is not None:
                under_way.add(group.create_task(self._map(self._mapper, load.concurrency)))
            else:
                under_way.update(group.create_task(self._loop()) for _ in range(load.concurrency))
            measured = await self._watch(load)
            self._over = True
            if load.open:
                dispatcher.cancel()
            if under_way and measured.verdict is not Verdict.INTERRUPTED:
                await asyncio.wait(under_way, timeout=DRAIN_S)
            for task in under_way:
                task.cancel()
        # Late answers are in no window, but failures count whenever they come.
        measured.failed.update(self._tally.failed)
        return measured

    async def _watch(self, load: Load) -> Measured:
        rule, clock = self._rule, time.perf_counter
        start_s = cut_s = clock()
        windows: list[Tally] = []
        failed: Counter[str] = Counter()
        verdict = Verdict.GOING
        cpu_s, process_cpu_s = time.thread_time(), time.process_time()
        while verdict is Verdict.GOING:
            try:
                await asyncio.sleep(min(rule.window_s, max(0.0, start_s + rule.max_s - clock())))
                while not rule.full(self._tally, clock() - cut_s, clock() - start_s):
                    await asyncio.sleep(rule.window_s * _LOOK)
            except asyncio.CancelledError:
                # Ctrl-C. What was measured so far is reported, so the cancellation ends here.
                verdict = Verdict.INTERRUPTED
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
            now_s = clock()
            window, self._tally = self._tally, Tally()
            window.seconds, cut_s = now_s - cut_s, now_s
            window.cpu_s, cpu_s = time.thread_time() - cpu_s, time.thread_time()
            window.process_cpu_s, process_cpu_s = time.process_time() - process_cpu_s, time.process_time()
            failed.update(window.failed)
            windows = [*windows[1 - WINDOWS :], window]
            if verdict is Verdict.GOING:
                verdict = rule.judge(windows, now_s - start_s)
                self._progress(load, window, now_s - start_s)
        return Measured(
            load=load,
            verdict=verdict,
            elapsed_s=cut_s - start_s,
            tally=merged(windows),
            failed=failed,
            p99_s=rule.p99_s,
        )

    async def _loop(self) -> None:
        while not self._over:
            await self._one(next(self._order), time.perf_counter())

    async def _dispatch(self, load: Load, group: asyncio.TaskGroup, under_way: set[asyncio.Task[None]]) -> None:
        room = asyncio.Semaphore(self._most)
        start_s = time.perf_counter()
        for at_s in due(load, self._seed):
            request = next(self._order)
            # An event loop that is behind must still read answers: it gets at least one turn for every request.
            await asyncio.sleep(max(0.0, start_s + at_s - time.perf_counter()))
            await room.acquire()
            self._tally.due += 1
            task = group.create_task(self._one(request, start_s + at_s))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            task.add_done_callback(lambda _: room.release())

    async def _one(self, request: Request, due_s: float) -> None:
        start_s = time.perf_counter()
        try:
            answer = await self._sender.send(request)
        except errors.Error as error:
            self._failed(error)
            # A call that is refused before it waits would keep the event loop busy.
            await asyncio.sleep(0)
        else:
            self._answered(request, answer, time.perf_counter() - due_s, start_s - due_s)

    async def _map(self, mapper: Mapper, window: int) -> None:
        """Also a closed loop: the client reads the next request when an answer has left its window."""
        sent: deque[tuple[Request, float]] = deque()

        def read() -> Iterator[Request]:
            while not self._over:
                request = next(self._order)
                sent.append((request, time.perf_counter()))
                yield request

        while not self._over:
            try:
                async for outcome in mapper.results(read(), window):
                    request, start_s = sent.popleft()
                    if isinstance(outcome, errors.Error):
                        self._failed(outcome)
                    else:
                        self._answered(request, TimedResult(outcome, 0.0, 0.0), time.perf_counter() - start_s, 0.0)
            except errors.Error as error:
                # The stream as a whole failed: what was in flight is lost.
                sent.clear()
                self._failed(error)
                await asyncio.sleep(0)

    def _answered(self, request: Request, answer: TimedResult, latency_s: float, late_s: float) -> None:
        if self._right(request, answer.result):
            self._tally.add(
                Answered(
                    latency_s=latency_s,
                    late_s=late_s,
                    encode_s=answer.encode_s,
                    reply_s=answer.reply_s,
                    timing=answer.result.timing,
                    rows=request.rows,
                    elements=request.elements,
                    nbytes=request.nbytes,
                )
            )

    def _failed(self, error: errors.Error) -> None:
        self._fail(_STATUS.get(type(error), "INTERNAL"), str(error))

    def _right(self, request: Request, result: Result) -> bool:
        fault = request.expected.fault(result)
        if fault:
            self._fail(WRONG, fault)
        return not fault

    def _fail(self, status: str, sentence: str) -> None:
        self._tally.fail(status)
        self.sentences.setdefault(status, sentence)

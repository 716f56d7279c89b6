"""What metrics cost a small call: the server's path of it with them and without, in alternated pairs of rounds.

    PYTHONPATH=client:server python benchmarks/metrics_cost.py

Calls of (8, 16) cross-entropy like one before, from the message to the answer: by plans, in bursts of 1, 8 and 64, and
by handlers. A network and HTTP/2 would cost both the same, and are left out. With an identity each call is asked who
makes it in either case, and is counted by name too.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from math import inf
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lossd.command_line.token_line import add_token
from lossd.v1 import loss_pb2, tensor_pb2
from lossd.v1 import service_pb2 as pb
from lossd_server.backends import Backend, create
from lossd_server.call.contract import Message, Metadata, Routes, WholeCall
from lossd_server.config.settings import Settings
from lossd_server.engine.batch_counts import BatchCounts
from lossd_server.engine.batcher import Batch
from lossd_server.fast_path.burst import Burst
from lossd_server.identity.gate import gated
from lossd_server.metrics.layout import Gauge
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.rpc.dispatch import Dispatcher
from lossd_server.server import Server
from machine import describe

PATH = "/lossd.v1.LossService/CrossEntropy"
CALLS = 120_000  # of each kind, with metrics and as many without
ROUND_CALLS = 192  # some milliseconds, so that few rounds are interrupted


class Uncounted(WorkerMetrics):
    """Counts nothing; what is left is a call of a function, which is part of what metrics cost."""

    def completed(self, loss: str) -> None: ...
    def set(self, values: Mapping[Gauge, int]) -> None: ...
    def hold(self, by_identity: Iterable[tuple[str, int]]) -> None: ...


class UncountedBatches(BatchCounts):
    """The same of batches."""

    def count(self, batch: Batch[Any]) -> None: ...


class BareCall:
    """A call of the contract whose message is here."""

    def __init__(self, message: bytes, metadata: Metadata) -> None:
        self.method, self.metadata, self.deadline = PATH, metadata, inf
        self.peer, self.subject = "memory", ""
        self.connection: Hashable = self.peer
        self.messages_in = self.messages_out = 0
        self.record = None
        self.request_id = ""
        self.settled = False
        self._message: bytes | None = message
        self._closed: list[Callable[[], object]] = []

    async def next_size(self) -> int | None:
        return None if self._message is None else len(self._message)

    async def read(self) -> bytes | None:
        message, self._message = self._message, None
        self.messages_in += message is not None
        return message

    async def write(self, message: Message) -> None:
        raise AssertionError("a unary call")

    def abandon(self) -> bool:
        return False

    def on_close(self, callback: Callable[[], object]) -> None:
        self._closed.append(callback)

    def close(self) -> None:
        for callback in self._closed:
            callback()


def request(rows: int = 8, classes: int = 16, with_lse: bool = False) -> bytes:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(rows, classes)).astype(np.float32), rng.integers(0, classes, rows)
    return pb.CrossEntropyRequest(
        input=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[rows, classes], data=logits.tobytes()),
        target=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[rows], data=labels.tobytes()),
        outputs=[loss_pb2.OUTPUT_LSE] if with_lse else [],
    ).SerializeToString()


def uncounted(server: Server, backend: Backend) -> Routes:
    """The server's routes, and nothing below them counts."""
    nothing = Uncounted()
    server.service._intake._burst = Burst(backend)
    server.service._intake.metrics = nothing
    server._worker._counts = UncountedBatches(nothing)
    dispatcher = Dispatcher()
    server.service.add_to(dispatcher)
    routes = dispatcher.routes()
    return routes if server._callers is None else gated(routes, server._callers, server._admission.callers)


Round = Callable[[], Awaitable[None]]


def bursts(routes: Routes, message: bytes, size: int, metadata: Metadata = ()) -> Round:
    calls = [WholeCall(PATH, metadata, message) for _ in range(size)]

    async def make() -> None:
        for _ in range(ROUND_CALLS // size):
            answers = routes.at_once(calls)
        assert answers[-1] is not None

    return make


def handlers(routes: Routes, message: bytes, metadata: Metadata = ()) -> Round:
    handler = routes.methods[PATH].handler

    async def make() -> None:
        for _ in range(ROUND_CALLS):
            call = BareCall(message, metadata)
            answer = await handler(call)
            assert isinstance(answer, bytes | tuple)
            call.close()

    return make


async def seconds(round_of: Round) -> float:
    """Of this thread's processor time: others' work on the machine is not in it."""
    start = time.thread_time()
    await round_of()
    return time.thread_time() - start


async def compare(name: str, counted: Round, bare: Round) -> None:
    """Prints microseconds a call: without, and what metrics add: the median of the pairs, and the middle half."""
    without, more = [], []
    await counted()
    await bare()
    for number in range(CALLS // ROUND_CALLS):
        pair = (counted, bare) if number % 2 else (bare, counted)
        took = {of: await seconds(of) for of in pair}
        without.append(took[bare] / ROUND_CALLS * 1e6)
        more.append((took[counted] - took[bare]) / ROUND_CALLS * 1e6)
    low, _, high = quantiles(more, n=4)
    print(f"{name:32} {median(without):7.2f} µs without, {median(more):+.3f} µs with ({low:+.3f} to {high:+.3f})")


def served(backend: Backend, tokens: str) -> tuple[tuple[Server, Routes], tuple[Server, Routes]]:
    """A server that counts, and one that does not; each with its routes."""
    settings = Settings(listen=("unix:unused",), shared_memory_socket="off", tokens=tokens)
    with_them, without = Server(settings, backend), Server(settings, backend)
    return (with_them, with_them.routes), (without, uncounted(without, backend))


async def measured(backend: Backend) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        metadata = (("authorization", f"Bearer {add_token('benchmark', path)}"),)
        anyone, known = served(backend, ""), served(backend, str(path))
    message = request()
    (with_them, counted), (_, bare) = anyone
    for routes in (counted, bare):
        for _ in range(2):
            await handlers(routes, message)()
    for size in (1, 8, 64):
        await compare(f"by plans, bursts of {size}", bursts(counted, message, size), bursts(bare, message, size))
    await compare("by a handler and a plan", handlers(counted, message), handlers(bare, message))
    unplanned = request(with_lse=True)  # for which there are no plans
    await compare("by a handler and the queue", handlers(counted, unplanned), handlers(bare, unplanned))
    for _, routes in known:
        for _ in range(2):
            await handlers(routes, message, metadata)()
    for size in (1, 64):
        of_known = (bursts(routes, message, size, metadata) for _, routes in known)
        await compare(f"with an identity, bursts of {size}", *of_known)
    for server, _ in (*anyone, *known):
        server._worker.close()
    completed, failed = with_them.metrics.evaluations()
    assert (completed > 4 * CALLS, failed) == (True, 0), "metrics have counted"


def main() -> None:
    print(describe("numpy", "numba"))
    backend = create("cpu", 1)
    gc.collect()
    gc.disable()
    asyncio.run(measured(backend))
    backend.close()


if __name__ == "__main__":
    main()

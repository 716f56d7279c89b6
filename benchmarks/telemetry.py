"""What looking on costs the server: microseconds of its processor time for a small call, by what is turned on.

    python benchmarks/telemetry.py

Calls of (8, 16) cross-entropy without a network, so that nothing else is measured: as a burst of 32 that is answered at
once, and each by its handler. The log's lines go nowhere; spans are recorded by the SDK, and then dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from lossd.request import build
from lossd_server.backends import Backend, create
from lossd_server.call.contract import WholeCall
from lossd_server.config.logs import LogFormatter
from lossd_server.config.settings import Settings
from lossd_server.server import Server
from lossd_server.warmup import warm_up
from machine import describe
from tests.server.memory_front import MemoryCall, handled

METHOD = "/lossd.v1.LossService/CrossEntropy"
BURST, REPEATS, ROUNDS = 32, 100, 7
FLAGS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
CASES: dict[str, tuple[dict[str, Any], tuple[tuple[str, str], ...]]] = {
    "nothing": ({}, ()),
    "access log, refused": ({"access_log": "refused"}, ()),
    "access log, all": ({"access_log": "all"}, ()),
    "traces, not sampled": ({"traces": "process"}, (("traceparent", FLAGS + "0"),)),
    "traces, sampled": ({"traces": "process"}, (("traceparent", FLAGS + "1"),)),
}


class Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Formatted(logging.Handler):
    """Formats each line, as the server's handler does before another thread writes it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


async def each_us(work: Callable[[], Any], calls: int) -> float:
    found = []
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(REPEATS):
            await work()
            await asyncio.sleep(0)  # records are told in a turn of their own
        found.append((time.process_time() - start_s) / REPEATS / calls * 1e6)
    return median(found)


async def measure(backend: Backend, body: bytes, settings: dict[str, Any], metadata: Any) -> tuple[float, float]:
    server = Server(Settings(listen=("127.0.0.1:0",), shared_memory_socket="off", **settings), backend)
    whole = [WholeCall(METHOD, metadata, body)] * BURST

    async def at_once() -> None:
        assert all(server.routes.at_once(whole))

    async def by_handler() -> None:
        await handled(server.routes, MemoryCall(METHOD, [body], metadata))

    for _ in range(3):
        await by_handler()
    found = await each_us(at_once, BURST), await each_us(by_handler, 1)
    await server.stop(1.0, linger_s=0.0)
    return found


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    handler = Formatted()
    handler.setFormatter(LogFormatter(as_json=True))
    logging.getLogger().handlers[:] = [handler]
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 16)).astype(np.float32)
    body = build.build("cross_entropy", logits, rng.integers(0, 16, 8)).body()
    backend = create("cpu", 2)
    warm_up(backend, lambda said: None)
    print(describe())
    print(f"\n| turned on | µs a call, burst of {BURST} | µs a call, by its handler |\n|---|---|---|")
    for name, (settings, metadata) in CASES.items():
        at_once, by_handler = asyncio.run(measure(backend, body, settings, metadata))
        print(f"| {name} | {at_once:.1f} | {by_handler:.1f} |")
    backend.close()


if __name__ == "__main__":
    main()

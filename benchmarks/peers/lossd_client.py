"""lossd's own clients.

PYTHONPATH=benchmarks:client python -m peers.lossd_client ADDRESS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import numpy as np

import lossd
from lossd.request import build as requests
from peers.case import Array, Case
from peers.worker import Cases, Sampler, answer, timed, together

PATH = "/lossd.v1.LossService/CrossEntropy"


class LossdClient:
    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = lossd.Client(address)
        self._cases = Cases()
        self._sampler = Sampler()
        self._in_region: dict[str, Array] = {}

    def message(self, case: str, file: str) -> dict[str, Any]:
        """Writes the request for a client that knows no lossd; tells its path and metadata, and the answer's bytes."""
        found = self._cases[case]
        call: Any = requests.build("cross_entropy", found.input, found.target)
        body = call.body()
        Path(file).write_bytes(body)
        with grpc.insecure_channel(self._address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            bare: Any = channel.unary_unary(PATH)
            reply = bare(body)
        metadata = {"lossd-request-bytes": str(len(body))}
        return {"path": PATH, "metadata": metadata, "answer_bytes": len(reply)}

    def count(self) -> int:
        """Evaluations that the server has answered with a result."""
        return int(self._client.info().statistics.completed)

    def calls(self, case: str, concurrency: int, count: int) -> dict[str, float]:
        found = self._cases[case]

        async def run() -> dict[str, float]:
            async with lossd.aio.Client(self._address) as client:

                async def call() -> float:
                    return float(await client.cross_entropy(found.input, found.target))

                for _ in range(50):
                    await call()
                return await together(call, found, concurrency, count)

        return asyncio.run(run())

    def map(self, case: str, count: int) -> dict[str, float]:
        """Evaluations per second of `client.map` over `count` equal ones."""
        found = self._cases[case]
        pair = (found.input, found.target)
        start = perf_counter()
        results = list(self._client.map("cross_entropy", (pair for _ in range(count))))
        seconds = perf_counter() - start
        assert len(results) == count
        for result in results:
            found.check(float(result))
        return {"per_s": count / seconds}

    def evaluate(self, case: str, gradient: bool, way: str, times: int) -> list[float]:
        """way: "unary", "stream", "shared_memory" (copied in) or "empty" (the array lies in shared memory)."""
        found = self._cases[case]
        input = found.input
        if way == "empty":
            if case not in self._in_region:
                self._in_region[case] = self._client.empty(found.input.shape, found.input.dtype)
                self._in_region[case][...] = found.input
            input = self._in_region[case]
        transport = "shared_memory" if way == "empty" else way

        def once() -> tuple[float, Array | None]:
            result = self._client.cross_entropy(input, found.target, grad=gradient, transport=transport)
            return float(result), result.grad

        return timed(once, found, times)

    def long(self, file: str, rows: int, classes: int) -> dict[str, float]:
        """Streams a memory-mapped file of zeros: (rows, classes) float32, whose loss is log(classes)."""
        input = np.memmap(file, np.float32, "r", shape=(rows, classes))
        target = np.zeros(rows, np.int64)
        start = perf_counter()
        result = self._client.cross_entropy(input, target, transport="stream", timeout=300)
        seconds = perf_counter() - start
        empty = np.empty((0, classes))
        Case(input, target, float(np.log(classes)), np.empty(0, np.int64), empty).check(float(result))
        return {"seconds": seconds}

    def sample(self, case: str) -> None:
        found = self._cases[case]
        self._sampler.start(lambda: float(self._client.cross_entropy(found.input, found.target)), found)

    def sampled(self) -> dict[str, int]:
        return self._sampler.stop()

    def drop(self) -> None:
        """Forgets every case."""
        self._cases.drop()
        self._in_region.clear()


if __name__ == "__main__":
    it = LossdClient(sys.argv[1])
    verbs = (it.message, it.count, it.calls, it.map, it.evaluate, it.long, it.sample, it.sampled, it.drop)
    answer({verb.__name__: verb for verb in verbs})

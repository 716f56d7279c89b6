"""Small requests that come together: 64 of (8, 16) cross-entropy, alike and of different shapes.

    python benchmarks/bursts.py

In this process: from a request's bytes to its answer's, recognised and computed as one burst; and as the Opens of one
message of a stream. Then with h2load, 128 calls at a time, the requests in a batch as the server
counts them, and its processor time a call.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np

import lossd
from fronts import server_seconds
from h2load import is_installed
from lossd.request import build
from lossd.v1 import service_pb2 as pb
from lossd_server import losses
from lossd_server.backends import Backend, create
from lossd_server.config.settings import Settings
from lossd_server.engine.worker import Worker
from lossd_server.fast_path.burst import Burst, address_of_bytes
from lossd_server.fast_path.plan import plan_of
from lossd_server.fast_path.recall import Recall
from lossd_server.intake.intake import Intake
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.streaming.planned_opens import PlannedOpens
from lossd_server.warmup import warm_up
from machine import describe
from processes import serving
from servers import LOSSD

COUNT, ROUNDS, REPEATS, CALLS = 64, 7, 200, 20_000
SHAPES = {"alike": [(8, 16)] * COUNT, "different shapes": [(5 + i % 8, 12 + i // 8) for i in range(COUNT)]}


def requests(shapes: list[tuple[int, int]], grad: bool) -> list[pb.CrossEntropyRequest]:
    rng = np.random.default_rng(0)
    return [
        pb.CrossEntropyRequest.FromString(
            build.build(
                "cross_entropy", rng.normal(size=(n, c)).astype(np.float32), rng.integers(0, c, n), grad=grad
            ).request.SerializeToString()
        )
        for n, c in shapes
    ]


def each_us(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(REPEATS):
            work()
        rounds.append((time.perf_counter() - start) / REPEATS / COUNT * 1e6)
    return median(rounds)


def burst(backend: Backend, shapes: list[tuple[int, int]], grad: bool) -> float:
    """Microseconds a request."""
    recall, together = Recall(losses.check, partial(plan_of, backend)), Burst(backend)
    bodies = []
    for request in requests(shapes, grad):
        recall.check("CrossEntropy", request)
        bodies.append(request.SerializeToString())

    def answer() -> list[bytes | None]:
        planned = []
        for body in bodies:
            known = recall.find("CrossEntropy", body)
            assert known is not None
            assert known.plan is not None
            planned.append((known.plan, address_of_bytes(body)))
        return together.answer(planned)

    assert None not in answer()
    return each_us(answer)


async def opens(backend: Backend, shapes: list[tuple[int, int]]) -> float:
    """Microseconds an Open, from the message's bytes to the results'."""
    settings = Settings()
    metrics = WorkerMetrics()
    worker = Worker(backend, settings.max_batch_bytes, settings.max_batch_rows, metrics)
    regions = RegionRegistry(1 << 20, settings.max_message_bytes, lambda size: None)
    intake = Intake(settings, backend, worker, regions, metrics)
    message = pb.StreamRequest()
    for number, request in enumerate(requests(shapes, grad=False)):
        intake.check_message("CrossEntropy", request)
        message.opens.opens.add(evaluation_id=number, cross_entropy=request)
    body, planned = message.SerializeToString(), PlannedOpens(intake, COUNT, None)
    assert None not in planned.results(body)
    found = each_us(lambda: planned.results(body))
    worker.close()
    return found


def loaded(connections: int, at_once: int) -> str:
    """What h2load says, the requests in a batch, and the server's processor time a call."""
    (request,) = requests([(8, 16)], grad=False)
    body = request.SerializeToString()
    with (
        tempfile.NamedTemporaryFile() as file,
        serving(LOSSD) as server,
        lossd.Client(server.address) as client,
    ):
        file.write(b"\0" + len(body).to_bytes(4, "big") + body)
        file.flush()
        url = f"http://{server.address}/lossd.v1.LossService/CrossEntropy"
        command = ["h2load", "-n", str(CALLS), "-c", str(connections), "-m", str(at_once), "-d", file.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", url]
        for _ in range(2):  # the first warms up
            before, used = client.info().statistics, server_seconds(server)
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            now, used = client.info().statistics, server_seconds(server) - used
        completed = now.completed - before.completed
        assert completed == CALLS, f"{completed} of {CALLS} calls have a result"
        rate = re.search(r"[\d.]+ req/s", said)
        assert rate is not None
        batch = completed / (now.batches - before.batches)
        return f"{rate.group():>16} {batch:6.1f} requests in a batch {used / CALLS * 1e6:6.1f} µs of the server each"


def main() -> None:
    print(describe("grpcio", "uvloop", "numpy", "numba"))
    backend = create("cpu")
    warm_up(backend, lambda line: None)
    for name, shapes in SHAPES.items():
        for grad in (False, True):
            what = "loss + gradient" if grad else "loss"
            print(f"burst of {COUNT}, {name}, {what}: {burst(backend, shapes, grad):.2f} µs each")
        print(f"message of {COUNT} Opens, {name}: {asyncio.run(opens(backend, shapes)):.2f} µs each")
    backend.close()
    if not is_installed():
        print("h2load is not installed (Debian's package nghttp2-client has it)")
        return
    for connections, at_once in ((1, 128), (4, 32), (128, 1)):
        print(f"h2load, {connections:3} × {at_once:3} calls at a time: {loaded(connections, at_once)}")


if __name__ == "__main__":
    main()

"""200 requests at once, of mixed losses and shapes: each answer checked, and where the time went."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import lossd
from lossd.bench.float64 import closed_form

REQUESTS = 200
LOSSES = ("cross_entropy", "bce", "bce_with_logits", "entropy")
CLASSES = (2, 10, 37, 100, 1000)
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Request:
    method: str
    tensors: tuple[npt.NDArray[Any], ...]


def requests(seed: int = 0) -> list[Request]:
    """The losses in turn, each of 1 to 64 rows and 2 to 1,000 classes."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(REQUESTS):
        method = LOSSES[number % len(LOSSES)]
        shape = (int(random.integers(1, 65)), int(random.choice(CLASSES)))
        logits = random.normal(0, 3, shape).astype(np.float32)
        tensors: tuple[npt.NDArray[Any], ...]
        if method == "cross_entropy":
            tensors = (logits, random.integers(0, shape[1], shape[0]))
        elif method == "bce_with_logits":
            tensors = (logits, random.random(shape, dtype=np.float32))
        elif method == "bce":
            tensors = (random.uniform(0.01, 0.99, shape).astype(np.float32), random.random(shape, dtype=np.float32))
        else:
            tensors = (random.dirichlet(np.full(shape[1], 50.0), shape[0]).astype(np.float32),)
        made.append(Request(method, tensors))
    return made


def error(request: Request, result: lossd.Result) -> float:
    """The larger of the loss's relative error and the gradient's greatest error over its greatest entry."""
    target = request.tensors[1] if len(request.tensors) > 1 else None
    loss, gradient = closed_form(request.method, request.tensors[0], target, "mean")
    off = np.abs(result.grad - gradient).max() / np.abs(gradient).max()
    return max(abs(float(result) - float(loss)) / abs(float(loss)), float(off))


async def send(address: str, wanted: list[Request]) -> tuple[list[lossd.Result], float]:
    """All requests at once over one connection; results in order, and the seconds that all of them took."""
    async with lossd.aio.Client(address) as client:
        await client.entropy(np.full((1, 2), 0.5, np.float32))  # connects, so that the burst is timed without it
        start = time.perf_counter()
        results = await asyncio.gather(*(getattr(client, r.method)(*r.tensors, grad=True) for r in wanted))
        return list(results), time.perf_counter() - start


def show_times(results: list[lossd.Result]) -> None:
    print("                  p50         p99")
    rows = {
        "total": ([r.timing.total_s for r in results], "from the call to its answer, in the client"),
        "queue": ([r.timing.queue_s for r in results], "in the server, waiting for its batch to start"),
        "compute": ([r.timing.compute_s for r in results], "its batch on the backend"),
    }
    for name, (seconds, meaning) in rows.items():
        p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
        print(f"   {name:<8}{p50:>8.2f} ms {p99:>8.2f} ms   {meaning}")


def show_batches(results: list[lossd.Result]) -> None:
    sizes = Counter(r.timing.batch_requests for r in results)
    # k requests report a batch of k: each stands for 1/k of it.
    batches = round(sum(count / size for size, count in sizes.items()))
    print(f"   The server put them into {batches} batches as they came, without padding:")
    buckets = Counter({size.bit_length(): 0 for size in range(1, max(sizes) + 1)})
    for size, count in sizes.items():
        buckets[size.bit_length()] += count
    for bits, count in sorted(buckets.items()):
        low, high = 1 << (bits - 1), (1 << bits) - 1
        label = f"{low}" if low == high else f"{low}-{high}"
        print(f"   {label:>8} in a batch  {count:>4} requests  {'#' * round(count / 4)}")


def run(address: str) -> bool:
    """Sends the burst, prints what came of it; whether every answer was right."""
    wanted = requests()
    results, seconds = asyncio.run(send(address, wanted))
    errors = [error(request, result) for request, result in zip(wanted, results, strict=True)]
    right = sum(e <= TOLERANCE for e in errors)
    print(f"   {right} of {len(wanted)} answers agree with float64 closed forms (greatest error {max(errors):.1e}).")
    print(f"   All were answered {seconds * 1e3:.0f} ms after the first was sent.\n")
    show_times(results)
    print()
    show_batches(results)
    return right == len(wanted)

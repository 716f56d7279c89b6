"""What lossd.torch adds to the client's own call, and a training step's large loss beside PyTorch's.

`python benchmarks/torch_cost.py` prints the calling thread's processor time for small losses, least of many rounds, and
the wall time of forward and backward for large ones. The server is embedded: on the same cores as PyTorch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
import lossd.torch.functional

ROUNDS, CALLS = 60, 30


def least_us(call: Callable[[], object]) -> float:
    """Microseconds of this thread's processor, the least of the rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time_ns()
        for _ in range(CALLS):
            call()
        least = min(least, (time.thread_time_ns() - start) / CALLS / 1e3)
    return least


def wall_s(step: Callable[[], Tensor], x: Tensor, times: int) -> float:
    """Seconds of forward and backward, the least of some."""
    least = float("inf")
    for _ in range(times + 1):
        x.grad = None
        start = time.perf_counter()
        step().backward()  # type: ignore[no-untyped-call]
        least = min(least, time.perf_counter() - start)
    return least


def small(client: lossd.Client) -> None:
    x, y = torch.randn(8, 16, requires_grad=True), torch.randint(0, 16, (8,))
    values, labels = x.detach().numpy(), y.numpy()

    def ours() -> Tensor:
        return lossd.torch.functional.cross_entropy(x, y, client=client)

    def in_mode() -> Tensor:
        with lossd.torch.remote(client):
            return F.cross_entropy(x, y)

    compiled = torch.compile(ours, fullgraph=True)
    print("cross-entropy of (8, 16) float32: µs of the calling thread's processor")
    for name, call in {
        "client.cross_entropy(…, grad=True)": lambda: client.cross_entropy(values, labels, grad=True),
        "lossd.torch, forward": ours,
        "lossd.torch, forward and backward": lambda: ours().backward(),  # type: ignore[no-untyped-call]
        "with remote(client), forward and backward": lambda: in_mode().backward(),  # type: ignore[no-untyped-call]
        "compiled, forward and backward": lambda: compiled().backward(),  # type: ignore[no-untyped-call]
        "PyTorch, forward and backward": lambda: F.cross_entropy(x, y).backward(),  # type: ignore[no-untyped-call]
    }.items():
        print(f"  {name:42} {least_us(call):7.1f}")


def large(client: lossd.Client, rows: int, classes: int) -> None:
    print(f"cross-entropy of ({rows}, {classes}), forward and backward: seconds")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(rows, classes).to(dtype).requires_grad_()
        y = torch.randint(0, classes, (rows,))
        ours = wall_s(partial(lossd.torch.functional.cross_entropy, x, y, client=client), x, 3)
        theirs = wall_s(partial(F.cross_entropy, x, y), x, 3)
        values = x.detach()
        start = time.perf_counter()
        client.cross_entropy(values, y, grad=True)
        alone = time.perf_counter() - start
        print(f"  {dtype!s:16} lossd.torch {ours:.3f}, client alone {alone:.3f}, PyTorch {theirs:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="what lossd.torch costs")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32_000)
    arguments = parser.parse_args()
    with lossd.Client("embedded") as client:
        small(client)
        large(client, arguments.rows, arguments.classes)


if __name__ == "__main__":
    main()

"""lossd in Ray Serve beside a plain server, and beside the same calls through Serve's own gRPC proxy.

    make .venv/ray/made
    PYTHONPATH=client:server:benchmarks .venv/bin/python benchmarks/ray_serve.py

A minute and a half, on a machine that does nothing else. Each serves by one process with one compute thread; all are
called by one client with raw messages, in turns. RAY_PYTHON: the interpreter that has Ray, .venv/ray/bin/python.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import grpc.aio
import numpy as np

import lossd
from lossd.request.build import build
from lossd.rpc import protocol
from lossd.v1 import service_pb2 as pb
from servers import LOSSD, running

ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("RAY_PYTHON", str(ROOT / ".venv/ray/bin/python"))
# Rows and classes; calls at once.
CASES = {"small": ((8, 16), 32), "16 MB": ((1000, 4000), 2)}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@contextmanager
def cluster() -> Iterator[tuple[str, str]]:
    """Addresses: `ray://…`, and that of Serve's gRPC proxy."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        http, proxy = first.getsockname()[1], second.getsockname()[1]
    command = [PYTHON, str(Path(__file__).with_name("ray_proxied.py")), str(http), str(proxy)]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fileno(), text=True
        )
        assert child.stdout is not None
        assert child.stdin is not None
        try:
            if child.stdout.readline() != "serving\n":
                errors.seek(0)
                raise RuntimeError(errors.read()[-4000:])
            yield f"ray://127.0.0.1:{http}", f"127.0.0.1:{proxy}"
        finally:
            child.stdin.close()
            child.wait(60)


async def calls_a_second(address: str, body: bytes, loss: float, at_once: int, seconds: float) -> float:
    """Of raw messages; RuntimeError where an answer is another."""
    done = 0
    metadata = (*protocol.metadata(len(body), 2**31 - 1), ("application", "proxied"))
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        method: Any = channel.unary_unary(protocol.PATHS["CrossEntropy"])

        async def caller(end_s: float, counted: bool) -> None:
            nonlocal done
            while time.monotonic() < end_s:
                answer = pb.CrossEntropyResponse.FromString(await method(body, metadata=metadata))
                found = float(np.frombuffer(answer.loss.data, np.float32)[0])
                if not np.isclose(found, loss, rtol=1e-5):
                    raise RuntimeError(f"{address} says {found}, not {loss}")
                done += counted

        await asyncio.gather(*(caller(time.monotonic() + 0.3, False) for _ in range(at_once)))
        start_s = time.monotonic()
        await asyncio.gather(*(caller(start_s + seconds, True) for _ in range(at_once)))
        return done / (time.monotonic() - start_s)


def server_of(address: str) -> str:
    """The one that the cluster tells."""
    from lossd.rpc.server_directory import asked

    (found,) = asked(address).servers
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    given = parser.parse_args()
    random = np.random.default_rng(7)
    with running([*LOSSD, "--device", "cpu", "--threads", "1"]) as plain, cluster() as (head, proxy):
        peers = {"plain server": plain, "replica in Ray": server_of(head), "Serve's gRPC proxy": proxy}
        print(f"{'':10}" + "".join(f"{name:>22}" for name in peers) + f"{'replica / plain':>18}{'replica / proxy':>18}")
        for case, (shape, at_once) in CASES.items():
            logits, target = random.normal(size=shape).astype(np.float32), random.integers(0, shape[1], shape[0])
            body = build("cross_entropy", logits, target).body()
            with lossd.Client(head) as client:
                loss = float(client.cross_entropy(logits, target))
            rates: dict[str, list[float]] = {name: [] for name in peers}
            for number in range(given.rounds):
                for name in list(peers)[:: 1 if number % 2 == 0 else -1]:
                    rates[name].append(asyncio.run(calls_a_second(peers[name], body, loss, at_once, given.seconds)))
            own = rates["replica in Ray"]
            ratios = [
                median(one / other for one, other in zip(own, rates[name], strict=True))
                for name in ("plain server", "Serve's gRPC proxy")
            ]
            figures = "".join(f"{median(found):>20.1f}/s" for found in rates.values())
            print(f"{case:10}{figures}{ratios[0]:>18.2f}{ratios[1]:>18.2f}", flush=True)


if __name__ == "__main__":
    main()

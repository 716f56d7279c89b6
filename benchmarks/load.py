"""Closed-loop load on one connection: a Python aio client, and h2load where it is installed."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from time import perf_counter

import grpc
import numpy as np

from lossd.v1 import service_pb2 as pb
from lossd.v1.service_pb2_grpc import LossServiceStub

METHOD = "/lossd.v1.LossService/CrossEntropy"
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.compression_enabled_algorithms_bitset", 1)]


@dataclass(frozen=True)
class Round:
    """One round of calls: per second, and the 50th and 99th percentile of their seconds."""

    per_s: float
    p50_s: float
    p99_s: float


async def drive(address: str, body: bytes, concurrency: int, calls: int) -> tuple[Round, list[bytes]]:
    """`calls` unary calls, `concurrency` at a time, of raw bytes both ways; the answers come back unread."""
    metadata = (("lossd-request-bytes", str(len(body))),)
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        for _ in range(50):
            await call(body, metadata=metadata)
        answers: list[bytes] = []
        seconds: list[float] = []
        left = iter(range(calls))

        async def one_after_another() -> None:
            for _ in left:
                start = perf_counter()
                answers.append(await call(body, metadata=metadata))
                seconds.append(perf_counter() - start)

        start = perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
        whole = perf_counter() - start
    p50, p99 = np.percentile(seconds, (50, 99))
    return Round(calls / whole, float(p50), float(p99)), answers


def python_round(address: str, body: bytes, concurrency: int, calls: int) -> tuple[Round, list[bytes]]:
    return asyncio.run(drive(address, body, concurrency, calls))


def completed(address: str) -> int:
    """Evaluations that a lossd server has answered with a result since it started."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        return LossServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest()).statistics.completed


def h2load_is_installed() -> bool:
    return shutil.which("h2load") is not None


def h2load_round(address: str, body: bytes, concurrency: int, calls: int) -> float:
    """Calls per second as h2load sees them: a client in C, whose own cost hardly counts. It knows HTTP status only."""
    with tempfile.NamedTemporaryFile() as frame:
        frame.write(b"\0" + len(body).to_bytes(4, "big") + body)  # a gRPC message: not compressed, length, bytes
        frame.flush()
        command = ["h2load", "-n", str(calls), "-c", "1", "-m", str(concurrency), "-d", frame.name]
        headers = ("content-type: application/grpc", "te: trailers", f"lossd-request-bytes: {len(body)}")
        for header in headers:
            command += ["-H", header]
        done = subprocess.run([*command, f"http://{address}{METHOD}"], capture_output=True, text=True, check=True)
    found = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    if found is None or succeeded is None or int(succeeded[1]) != calls:
        raise RuntimeError(f"h2load did not finish {calls} calls:\n{done.stdout}{done.stderr}")
    return float(found[1])

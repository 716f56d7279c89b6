"""`lossd serve --workers 2`, and who its processes are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from lossd.v1 import service_pb2
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.server.server_process import process
from tests.waiting import until

CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]


def info(address: str) -> service_pb2.GetServerInfoResponse:
    """Over a connection of its own."""
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        return LossServiceStub(channel).GetServerInfo(
            service_pb2.GetServerInfoRequest(), timeout=30, wait_for_ready=True
        )


def answering(address: str, count: int) -> dict[str, service_pb2.GetServerInfoResponse]:
    """What each of the processes there says of itself, by instance_id, as soon as `count` of them have answered."""
    found: dict[str, service_pb2.GetServerInfoResponse] = {}

    def reached() -> bool:
        said = info(address)
        found[said.instance_id] = said
        return len(found) == count

    until(reached, f"{count} processes answer at {address}")
    return found


def instances(address: str, count: int) -> set[str]:
    """The instance_ids of the processes there."""
    return set(answering(address, count))


def children(pid: int) -> list[int]:
    """Its worker processes (multiprocessing has a process of its own beside them)."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split() if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@contextmanager
def two_workers(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with process("--workers", "2", "--listen", "127.0.0.1:0", "--drain-s", "10", *flags) as (child, address):
        try:
            yield child, address
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait(30)

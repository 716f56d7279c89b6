"""A device that cannot be used any more: callers go elsewhere, the health check says so, the process ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd_server.backends import DeviceLost
from lossd_server.jobs.job import Computed, Launch
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.running import details, finished, refused, serving, stub
from tests.waiting import WAIT_S

PROGRAM = """
import sys

from lossd_server import serve
from tests.server.test_device_lost import LostBackend

serve.prepare_backend = lambda settings: LostBackend()
sys.exit(serve.main(["--listen", "127.0.0.1:0", "--drain-s", "1"]))
"""


class LostBackend(EdgeBackend):
    """Its device is gone when the first batch comes."""

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        raise DeviceLost("CUDA error: an illegal memory access was encountered")


def test_every_caller_is_told_to_go_elsewhere() -> None:
    """All calls of the batch end with UNAVAILABLE and RetryInfo, in our words alone, and the server knows."""

    async def run() -> None:
        async with serving(LostBackend()) as (server, channel):
            calls = [finished(stub(channel).CrossEntropy(cross_entropy(rows))) for rows in (1, 2, 3)]
            errors = [await refused(call) for call in calls]
            await server.device_lost()

        for error in errors:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert details(error)["ErrorInfo"].reason == "DEVICE_LOST"
            assert "RetryInfo" in details(error)
            assert "CUDA" not in (error.details() or "")

    asyncio.run(run())


def test_the_process_ends() -> None:
    """After the first lost batch a watcher of its health hears NOT_SERVING; it exits with status 1 and a sentence."""

    async def run(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watched = health.Watch(  # type: ignore[attr-defined] # the stubs lack it
                health_pb2.HealthCheckRequest(service="lossd.v1.LossService")
            )
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
            await refused(stub(channel).CrossEntropy(cross_entropy()))
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING

    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            asyncio.run(run(process.stdout.readline().removeprefix("listening on ").strip()))
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()

    assert process.returncode == 1
    assert "the device was lost" in said

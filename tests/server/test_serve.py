"""`lossd serve` as a process of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server import serve
from lossd_server.config.address import check_free
from lossd_server.config.settings import Settings
from lossd_server.metrics.worker_metrics import WorkerMetrics
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy
from tests.server.server_process import process, run
from tests.waiting import WAIT_S


def test_what_it_prints(tmp_path: Path) -> None:
    """It prints each address, then device, backend and limits; answers on all; exits 0 on SIGTERM."""
    with process("--listen", "127.0.0.1:0", "--listen", f"unix:{tmp_path}/socket", "--drain-s", "9") as (child, first):
        assert child.stdout is not None
        lines = [child.stdout.readline().split(" ", 1) for _ in range(4)]
        counts = []
        for address in (first, f"unix:{tmp_path}/socket"):
            with grpc.insecure_channel(address) as channel:
                counts.append(LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count)
        child.send_signal(signal.SIGTERM)

        assert first.startswith("127.0.0.1:")
        assert [line[0] for line in lines] == ["listening", "device", "backend", "limits"]
        assert lines[0][1] == f"on unix:{tmp_path}/socket\n"
        assert lines[2][1] == "numba\n"
        assert "drain_s=9" in lines[3][1]
        assert counts == [4, 4]
        assert child.wait(WAIT_S) == 0


def test_sigterm_under_load() -> None:
    """Every call is answered, or told UNAVAILABLE: none that was accepted is lost, and the exit status is 0."""
    with process("--listen", "127.0.0.1:0") as (child, address), grpc.insecure_channel(address) as channel:
        stub, request = LossServiceStub(channel), cross_entropy(64, 100)
        answered, lost, enough = [0] * 4, list[Any](), threading.Event()

        def load(index: int) -> None:
            while True:
                try:
                    assert stub.CrossEntropy(request, timeout=30).summary.count == 64
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        lost.append(error)
                    return
                answered[index] += 1
                if answered[index] == 20:
                    enough.set()

        threads = [threading.Thread(target=load, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(WAIT_S)
        child.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()

        assert lost == []
        assert sum(answered) >= 20
        assert child.wait(WAIT_S) == 0


def test_second_server_on_the_port() -> None:
    """A port that is taken is refused at the start, with one sentence and a status that is not 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        second = run("--listen", address)

        assert second.returncode == 1
        assert second.stderr == f"lossd serve: cannot listen on {address}: Address already in use\n"
        assert second.stdout == ""


def test_second_server_on_the_socket(tmp_path: Path) -> None:
    """A Unix socket on which someone listens is taken; a file left behind by a dead server is not."""
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{tmp_path}/socket")
        check_free(f"unix:{tmp_path}/socket")
        taken.listen()

        with pytest.raises(OSError, match="another server listens"):
            check_free(f"unix:{tmp_path}/socket")


def test_usage() -> None:
    """A setting that cannot be used is one sentence and status 2."""
    bad = run("--listen", "0.0.0.0:1")

    assert bad.returncode == 2
    assert bad.stderr.startswith("lossd serve: listen = '0.0.0.0:1' can be reached from other machines")
    assert bad.stderr.count("\n") == 1


def test_what_was_loaded_is_never_collected() -> None:
    """Once it serves, a full collection looks at what calls made alone: the kernels' objects would hold the loop up."""
    frozen: list[int] = []

    def ready(addresses: list[str]) -> None:
        frozen.append(gc.get_freeze_count())
        os.kill(os.getpid(), signal.SIGTERM)

    gc.unfreeze()  # what other tests' servers froze
    before = gc.get_freeze_count()
    try:
        asyncio.run(serve._serve(Settings(listen=("127.0.0.1:0",), drain_s=1.0), EdgeBackend(), ready, WorkerMetrics()))
    finally:
        gc.unfreeze()

    assert frozen[0] - before > 10_000

"""Metrics and health of `lossd serve` as its processes come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from lossd.v1.service_pb2 import GetServerInfoRequest
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.server.messages import cross_entropy
from tests.server.metrics.scraping import scraped
from tests.server.processes.worker_processes import CHANNEL, children, instances, two_workers
from tests.server.server_process import process
from tests.waiting import until


def url_of(child: subprocess.Popen[str]) -> str:
    """Of its HTTP port, by the lines that are left of what it printed."""
    assert child.stdout is not None
    return next(line for line in child.stdout if line.startswith("http ")).split()[1]


def why_not_ready(url: str) -> str:
    """What /readyz says with 503; "" for ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            assert answer.read() == b"ready\n"
            return ""
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return error.read().decode().strip()


def called_everywhere(address: str, least: int) -> Counter[str]:
    """Calls by the worker that answered them: `least` of each of two."""
    found: Counter[str] = Counter()

    def reached() -> bool:
        with grpc.insecure_channel(address, options=CHANNEL) as channel:
            stub = LossServiceStub(channel)
            said = stub.GetServerInfo(GetServerInfoRequest(), timeout=30, wait_for_ready=True)
            stub.CrossEntropy(cross_entropy(), timeout=30)
            found[said.instance_id] += 1
        return len(found) == 2 and min(found.values()) >= least

    until(reached, "two processes have answered")
    return found


def test_workers_are_added_up_and_outlived() -> None:
    """A scrape has the calls of both; one that is killed takes none of them with it, and its successor counts on."""
    with two_workers("--http", "0") as (child, address):
        url = url_of(child)
        before = instances(address, 2)
        made = called_everywhere(address, 3).total()
        page = scraped(url)
        assert page.called("CrossEntropy") == made
        assert page.value("lossd_evaluations_total", loss="CrossEntropy", result="completed") == made
        assert page.value("lossd_workers") == 2
        assert page.value("lossd_inflight_requests_limit") == 4096
        assert len(page.series("lossd_build_info")) == 1
        os.kill(children(child.pid)[0], signal.SIGKILL)

        def replaced() -> bool:
            nonlocal page
            page = scraped(url)
            assert page.called("CrossEntropy") == made
            return page.value("lossd_worker_restarts_total") == 1 and page.value("lossd_workers") == 2

        until(replaced, "a new process has its place")
        until(lambda: instances(address, 2) != before, "it answers")
        made += called_everywhere(address, 3).total()
        assert scraped(url).called("CrossEntropy") == made


def test_a_worker_that_stands_still() -> None:
    """The server is not ready while one of its processes is stopped, and is again when that goes on."""
    with two_workers("--http", "0") as (child, _):
        url = url_of(child)
        assert why_not_ready(url) == ""
        stopped = children(child.pid)[1]
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: "stands still" in why_not_ready(url), "a worker that stands still is told of")
        os.kill(stopped, signal.SIGCONT)

        until(lambda: why_not_ready(url) == "", "the server is ready again")


@contextmanager
def unfinished_call(address: str, url: str) -> Iterator[Any]:
    """A call that has begun, and sends no message."""
    over = threading.Event()

    def messages() -> Iterator[bytes]:
        over.wait()
        yield from ()

    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        never: Any = channel.stream_unary("/lossd.v1.LossService/CrossEntropy")
        call = never.future(messages(), timeout=60)
        until(lambda: scraped(url).total("grpc_server_started_total", grpc_method="CrossEntropy") == 1, "it has begun")
        yield call
        call.cancel()
        over.set()


def test_a_server_that_drains() -> None:
    """It says so while it finishes a call that it has accepted, and lives until that is over."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, address):
        url = url_of(child)
        assert why_not_ready(url) == ""
        with unfinished_call(address, url):
            child.send_signal(signal.SIGTERM)

            until(lambda: why_not_ready(url).startswith("stopping"), "the end is told of")
        assert child.wait(30) == 0

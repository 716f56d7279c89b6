"""Losses over HTTP from `lossd serve`: one process or several, while they start, are killed and stop."""

from __future__ import annotations

import os
import signal
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.credentials import Pki
from tests.server.http.serving_http import Reply, post
from tests.server.http.test_walk import context
from tests.server.identity.conftest import pki
from tests.server.metrics.scraping import scraped
from tests.server.metrics.test_workers import url_of
from tests.server.processes.worker_processes import children, two_workers
from tests.server.server_process import process
from tests.waiting import until

__all__ = ["pki"]  # a fixture

BODY = b'{"input": [[1.0, 2.0, 3.0]], "target": [2]}'


def computed(url: str) -> Reply:
    return post(f"{url}/v1/losses/cross_entropy", BODY, {})


def test_one_process() -> None:
    """It computes, and its folder of sockets is gone with it."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, _):
        url = url_of(child)
        assert computed(url).json["summary"]["count"] == 1
        (socket,) = sockets(child.pid)
        assert socket.parent.is_dir()
        child.send_signal(signal.SIGTERM)

        assert child.wait(60) == 0
        assert not socket.parent.exists()


def sockets(pid: int) -> list[Path]:
    """Those of the HTTP port's calls, which the process listens on."""
    lines = Path(f"/proc/{pid}/net/unix").read_text(encoding="utf-8").splitlines()[1:]
    inodes = set()
    for one in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed in between
            inodes.add(os.readlink(f"/proc/{pid}/fd/{one}"))
    fields = [line.split() for line in lines if len(line.split()) == 8]
    listening = [one for one in fields if one[3] == "00010000" and f"socket:[{one[6]}]" in inodes]
    return [Path(one[7]) for one in listening if one[7].endswith("/0")]


def test_two_processes() -> None:
    """Both compute for the parent's port; where one is killed the other goes on, and its successor joins."""
    with two_workers("--http", "0") as (child, _):
        url = url_of(child)
        assert {computed(url).status for _ in range(10)} == {200}
        assert scraped(url).called("CrossEntropy") == 10
        before = children(child.pid)
        os.kill(before[0], signal.SIGKILL)

        def said() -> bool:
            reply = computed(url)
            assert reply.status == 200 or reply.error["code"] == "UNAVAILABLE"
            return scraped(url).value("lossd_worker_restarts_total") == 1

        until(said, "a new process has its place")
        until(lambda: {computed(url).status for _ in range(4)} == {200}, "all calls are answered")


def test_the_certificate_of_a_client(pki: Pki) -> None:
    """Whom the HTTP port has verified is known where the loss is computed, in another process too."""
    tls = ("--tls-cert", pki.server_pem, "--tls-key", pki.server_key, "--tls-client-ca", pki.ca_pem)
    with two_workers("--http", "0", *tls) as (child, _):
        url = url_of(child).replace("127.0.0.1", "localhost")
        request = urllib.request.Request(f"{url}/v1/losses/cross_entropy", BODY, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60, context=context(pki, pki)) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{url}/metrics", timeout=60, context=context(pki, pki)) as answer:
            assert 'lossd_identity_requests_total{identity="client-7"} 1.0' in answer.read().decode()

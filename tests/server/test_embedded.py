"""The server inside this process."""

from __future__ import annotations

import os
import stat
import threading

import grpc
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.embedded import EmbeddedServer
from tests.server.edge import EdgeBackend
from tests.server.messages import cross_entropy


def test_answers() -> None:
    """It answers a synchronous client on a Unix socket that only this user can reach, and leaves nothing behind."""
    before = threading.active_count()
    with EmbeddedServer(backend=EdgeBackend()) as server:
        folder = os.path.dirname(server.address.removeprefix("unix:"))
        with grpc.insecure_channel(server.address) as channel:
            answer = LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30)

        assert answer.summary.count == 4
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert not os.path.exists(folder)
    assert threading.active_count() <= before + 1  # grpc's own poller may stay


def test_again_and_beside_each_other() -> None:
    """Two may run at once, and one may be started after another; close is idempotent."""
    first, second = EmbeddedServer(backend=EdgeBackend()).start(), EmbeddedServer(backend=EdgeBackend()).start()

    assert first.address != second.address
    for server in (first, second):
        with grpc.insecure_channel(server.address) as channel:
            assert LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count == 4
        server.close()
        server.close()
    with pytest.raises(RuntimeError, match="not running"):
        assert first.address
    with EmbeddedServer(backend=EdgeBackend()) as third, grpc.insecure_channel(third.address) as channel:
        assert LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30).summary.count == 4

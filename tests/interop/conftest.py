"""A server on each front, and each client."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from lossd.v1.service_pb2 import GetServerInfoRequest, Statistics
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.config.settings import FRONTS
from tests.interop.clients import CLIENTS, InteropClient
from tests.server.server_process import process
from tests.waiting import until

LARGEST = ("--max-message-bytes", "20MiB")  # 16 MiB of logits, and what is beside them


class Served:
    """A running server. unix: its socket."""

    def __init__(self, address: str, unix: str, front: str) -> None:
        self.address = address
        self.unix = unix
        self.front = front

    def statistics(self) -> Statistics:
        with grpc.insecure_channel(self.address) as channel:
            statistics: Statistics = LossServiceStub(channel).GetServerInfo(GetServerInfoRequest()).statistics
        return statistics

    def until_idle(self) -> Statistics:
        """Waits until it holds nothing of any call. What it has counted."""
        seen = [self.statistics()]

        def idle() -> bool:
            seen.append(self.statistics())
            return not seen[-1].inflight_requests and not seen[-1].inflight_bytes

        until(idle, "the server lets go of its calls")
        return seen[-1]


@pytest.fixture(scope="session", params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """Each front, or the one that --front names."""
    found: str = request.param
    if request.config.getoption("--front") not in ("", found):
        pytest.skip("the other front was asked for")
    return found


@pytest.fixture(scope="session")
def served(front: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    unix = f"unix:{tmp_path_factory.mktemp('socket') / 'lossd'}"
    with process("--front", front, "--listen", "127.0.0.1:0", "--listen", unix, *LARGEST) as (_, address):
        yield Served(address, unix, front)


@pytest.fixture(scope="session")
def every(request: pytest.FixtureRequest) -> bool:
    """Whether nothing may be missing."""
    found: bool = request.config.getoption("--every-client")
    return found


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest, every: bool) -> InteropClient:
    found: InteropClient = request.param
    found.require(every)
    return found

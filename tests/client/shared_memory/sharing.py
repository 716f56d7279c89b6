"""A server whose shared memory a test uses, and the client's regions there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from lossd.shared_memory.arena import Arena
from lossd.v1.service_pb2 import GetServerInfoRequest, GetServerInfoResponse
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.server.edge import EdgeBackend

LARGE = 3 << 20


@contextmanager
def serving(**settings: int) -> Iterator[GetServerInfoResponse]:
    """A server's GetServerInfo while it runs."""
    limits = Settings(**settings)  # type: ignore[arg-type]  # by name
    with EmbeddedServer(limits, EdgeBackend()) as server, grpc.insecure_channel(server.address) as channel:
        yield LossServiceStub(channel).GetServerInfo(GetServerInfoRequest())


def opened(info: GetServerInfoResponse) -> Arena:
    regions = Arena.connect(info.shared_memory_socket, info.instance_id)
    assert regions is not None
    return regions


def place(regions: Arena, array: object) -> tuple[bytes, int]:
    found = regions.find(array)  # type: ignore[arg-type]  # of any kind
    assert found is not None
    return found

"""What the client's tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lossd
from tests.client.stand_in import StandIn


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def client(server: StandIn) -> Iterator[lossd.Client]:
    with lossd.Client(server.address) as client:
        yield client

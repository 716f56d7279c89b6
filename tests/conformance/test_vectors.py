"""Vectors that clients of every language replay: here by the generated classes, and by `lossd.Client`."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

import lossd
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.conformance.client_replay import Inexpressible, through
from tests.conformance.replay import Vector, difference, streamed, unary, vectors
from tests.server.server_process import process

VECTORS = list(vectors())
STREAMED = [one for one in VECTORS if "stream" in one.case]
LARGEST_FILE = 300_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with process("--listen", "127.0.0.1:0") as (_, address):
        yield address


@pytest.fixture(scope="module")
def stub(address: str) -> Iterator[LossServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield LossServiceStub(channel)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[lossd.Client]:
    with lossd.Client(address) as client:
        yield client


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_unary(stub: LossServiceStub, vector: Vector) -> None:
    """A unary call is answered, or refused, as the vector says."""
    got = unary(stub, vector)

    assert not difference(vector, got)


@pytest.mark.parametrize("vector", STREAMED, ids=str)
def test_in_blocks(stub: LossServiceStub, vector: Vector) -> None:
    """So is the same evaluation, streamed in blocks."""
    got = streamed(stub, vector)

    assert not difference(vector, got)


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_client(client: lossd.Client, vector: Vector) -> None:
    """So is a call of the Python client, wherever it can be written."""
    try:
        got = through(client, vector)
    except Inexpressible as error:
        pytest.skip(f"no words of the client say this: {error}")

    assert not difference(vector, got)

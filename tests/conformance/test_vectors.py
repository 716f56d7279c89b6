"""Vectors that clients of every language replay: here by the generated classes, and by `lossd.Client`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import lossd
from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.conformance.client_replay import Inexpressible, through
from tests.conformance.replay import Vector, difference, streamed, unary, vectors
from tests.server.server_process import process

FOLDER = Path(__file__).parents[2]
VECTORS = list(vectors())
STREAMED = [one for one in VECTORS if "stream" in one.case]
# Reasons of the checks that no unary request to a server with shared memory can have.
OF_STREAMS, OF_SERVERS_WITHOUT = {"NOT_STREAMABLE"}, {"NOT_SERVED"}
CHECKS = [path for name in ("losses", "tensors") for path in (FOLDER / "server/lossd_server" / name).glob("*.py")]


def test_every_reason_has_a_vector() -> None:
    """Each reason that a check of a request gives is that of some vector."""
    said = {reason for path in CHECKS for reason in re.findall(r'"([A-Z]{2,}(?:_[A-Z]+)+)"', path.read_text("utf-8"))}
    replayed = {one.case["error"]["reason"] for one in VECTORS if "error" in one.case}

    assert len(said) > 10
    assert said - replayed == OF_STREAMS | OF_SERVERS_WITHOUT


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

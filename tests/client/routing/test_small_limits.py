"""Limits of messages steer the way: what could be streamed is never refused as too large."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import lossd
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from lossd_server.errors import TooLarge
from tests.client.routing.test_every_transport import CALLS, same
from tests.client.stand_in import StandIn

SMALL_BYTES = 1 << 16
X = np.random.default_rng(1).normal(size=(4000, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Servers without shared memory: one that takes small messages alone, and one that takes large ones."""
    with (
        EmbeddedServer(Settings(max_message_bytes=SMALL_BYTES, max_shared_memory_bytes=0)) as small,
        EmbeddedServer(Settings(max_shared_memory_bytes=0)) as large,
    ):
        yield {"server": small.address, "client": large.address}


def connected(addresses: dict[str, str], bound: str, kind: Any = lossd.Client) -> Any:
    """A client where the server, or the client itself, takes small messages alone."""
    return kind(addresses[bound], **({"max_response_bytes": SMALL_BYTES} if bound == "client" else {}))


@pytest.fixture(params=["server", "client"])
def bounded(request: pytest.FixtureRequest, addresses: dict[str, str]) -> Iterator[lossd.Client]:
    with connected(addresses, request.param) as client:
        yield client


@pytest.mark.parametrize("name", CALLS)
def test_every_call_has_its_answer(bounded: lossd.Client, addresses: dict[str, str], name: str) -> None:
    """With the bits of a whole message: whichever of both is bounded, requests and answers of all kinds."""
    method, operands, options = CALLS[name]
    with lossd.Client(addresses["client"]) as free:
        whole = getattr(free, method)(*operands, **options, transport="unary")

    same(getattr(bounded, method)(*operands, **options), whole)


@pytest.mark.parametrize("rows", [1, 100, 480, 512, 520, 1000, 4000])
@pytest.mark.parametrize("options", [{}, {"grad": True}, {"reduction": "none"}, {"reduction": "none", "grad": True}])
def test_every_size_has_its_answer(
    bounded: lossd.Client, addresses: dict[str, str], rows: int, options: dict[str, Any]
) -> None:
    """Those around the limit too, alone, among others of a map, and from the asynchronous client."""
    x = X[:rows]
    with lossd.Client(addresses["client"]) as free:
        whole = free.entropy(x, kind="logits", **options, transport="unary")

    same(bounded.entropy(x, kind="logits", **options), whole)
    for result in bounded.map("entropy", [(x,)] * 3, kind="logits", **options):
        same(result, whole)


def test_the_asynchronous_client_is_steered_too(addresses: dict[str, str]) -> None:
    """Many calls at once, which would share a stream."""

    async def main(bound: str) -> list[lossd.Result]:
        async with connected(addresses, bound, lossd.aio.Client) as client:
            calls = [client.entropy(X[:rows], kind="logits", grad=True) for rows in (1, 100, 520, 4000) for _ in "ab"]
            return list(await asyncio.gather(*calls))

    of_server, of_client = asyncio.run(main("server")), asyncio.run(main("client"))

    for one, other in zip(of_server, of_client, strict=True):
        same(one, other)


def test_what_cannot_be_cut_names_the_limit_that_is_too_small(bounded: lossd.Client) -> None:
    """And whose it is."""
    with pytest.raises(
        lossd.TooLarge, match=r"cannot be streamed: input is one row.*raise th.* max_(message|response)"
    ):
        bounded.softmax(X.ravel())


def test_small_calls_are_not_refused_twice(server: StandIn, client: lossd.Client) -> None:
    """The first that is too large for one message asks the server; those after it go in blocks at once."""
    server.max_message_bytes = server.max_item_bytes = SMALL_BYTES
    server.failures.append(TooLarge("too much", reason="MESSAGE_TOO_LARGE"))

    for _ in range(2):
        client.entropy(X[:1000])

    assert server.rpcs == ["Entropy", "GetServerInfo", "Stream", "Stream"]


@pytest.mark.parametrize("failure", [grpc.StatusCode.RESOURCE_EXHAUSTED, TooLarge("too much", reason="ON_THE_WAY")])
@pytest.mark.parametrize("rows", [100, 40_000])
def test_a_limit_on_the_way_is_gone_around(server: StandIn, client: lossd.Client, failure: Any, rows: int) -> None:
    """A proxy's: nobody told it, and blocks are small."""
    server.failures.append(failure)

    assert float(client.entropy(np.full((rows, 16), 7, np.float32))) == 7
    assert server.rpcs[-1] == "Stream" or rows == 100


@pytest.mark.parametrize("rows", [100, 40_000])
def test_one_message_that_was_asked_for_is_refused(server: StandIn, client: lossd.Client, rows: int) -> None:
    """TooLarge, as the server says it."""
    server.failures.append(TooLarge("too much", reason="ON_THE_WAY"))

    with pytest.raises(lossd.TooLarge, match="too much"):
        client.entropy(np.full((rows, 16), 7, np.float32), transport="unary")

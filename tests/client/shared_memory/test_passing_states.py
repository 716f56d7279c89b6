"""Why there is no shared memory may pass: then it is waited for, within the deadline, and else told as what it is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.shared_memory import socket_protocol
from lossd.shared_memory.session import SharedMemorySession
from lossd.v1 import service_pb2
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from lossd_server.errors import NotFound
from lossd_server.shared_memory import socket_server
from lossd_server.shared_memory.registry import RegionRegistry
from tests.client.stand_in import StandIn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory is Linux's")

X = np.linspace(-3, 3, 400 * 1000, dtype=np.float32).reshape(400, 1000)
Y = np.arange(400)


def awaited(client: lossd.aio.Client, many: bool, **options: Any) -> Any:
    async def main() -> list[lossd.Result]:
        async with client:
            if many:
                return [one async for one in client.map("cross_entropy", [(X, Y)] * 3, **options)]
            return list(await asyncio.gather(*[client.cross_entropy(X, Y, **options) for _ in range(3)]))

    return asyncio.run(main())


def blocking(client: lossd.Client, many: bool, **options: Any) -> Any:
    with client:
        if many:
            return list(client.map("cross_entropy", [(X, Y)] * 3, **options))
        return [client.cross_entropy(X, Y, **options)]


Evaluate = Callable[..., list[lossd.Result]]


@pytest.fixture(params=["blocking", "awaitable"])
def evaluate(request: pytest.FixtureRequest) -> Evaluate:
    """address, whether by `map`, options → results."""
    if request.param == "blocking":
        return lambda address, many, **options: blocking(lossd.Client(address), many, **options)
    return lambda address, many, **options: awaited(lossd.aio.Client(address), many, **options)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer(Settings()) as server:
        yield server.address


@pytest.fixture
def forgets(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The server knows no region for so many requests, as another worker of it would not."""
    resolve = RegionRegistry.resolve

    def forget(times: float) -> None:
        left = [times]

        def resolved(registry: RegionRegistry, fields: Any) -> Any:
            shared = any(getattr(one, "place", None) is not None for one in fields.values())
            left[0] -= shared
            if shared and left[0] >= 0:
                raise NotFound("no such region", reason=socket_protocol.UNKNOWN_REGION)
            return resolve(registry, fields)

        monkeypatch.setattr(RegionRegistry, "resolve", resolved)

    return forget


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("transport", ["auto", "shared_memory"])
def test_regions_that_are_lost_again_and_again(
    evaluate: Evaluate, address: str, forgets: Callable[[float], None], many: bool, transport: Any
) -> None:
    """Are registered again, and the call has its answer."""
    forgets(5)

    results = evaluate(address, many, transport=transport)

    assert {float(one) for one in results} == {float(blocking(lossd.Client(address), False, transport="unary")[0])}


@pytest.mark.parametrize("many", [False, True])
def test_regions_that_stay_lost_are_unavailable(
    evaluate: Evaluate, address: str, forgets: Callable[[float], None], many: bool
) -> None:
    """At the deadline: not a fault of the request's, which is answered by any other transport."""
    forgets(float("inf"))

    with pytest.raises(lossd.Unavailable, match="does not know this client's memory"):
        evaluate(address, many, transport="shared_memory", timeout=0.5)


@pytest.mark.parametrize("many", [False, True])
def test_a_server_that_was_replaced_before_its_memory_was_opened(tmp_path: Path, many: bool) -> None:
    """What it said of itself is asked anew."""
    link = tmp_path / "socket"
    with lossd.Client(f"unix:{link}") as client:
        for _ in range(2):
            with EmbeddedServer(Settings()) as server:
                link.unlink(missing_ok=True)
                link.symlink_to(server.address.removeprefix("unix:"))
                if not client._connection().server:
                    client._connection().known(client._retry(None))
                    continue
                if many:
                    (result,) = client.map("cross_entropy", [(X, Y)], transport="shared_memory")
                else:
                    result = client.cross_entropy(X, Y, transport="shared_memory")
                assert float(result) == float(client.cross_entropy(X, Y, transport="unary"))


@pytest.mark.parametrize("many", [False, True])
def test_a_socket_that_is_not_reached_is_another_hosts(server: StandIn, evaluate: Evaluate, many: bool) -> None:
    """Once a server that is there has said twice where it is: InvalidArgument, at once."""
    server.instances.append("A")
    server.instances.popleft()

    with pytest.raises(lossd.InvalidArgument, match="/nowhere/socket is not reached from here"):
        evaluate(server.address, many, transport="shared_memory")
    assert {*server.rpcs} <= {"GetServerInfo", "Stream"}


@pytest.mark.parametrize("many", [False, True])
def test_servers_that_come_and_go_are_unavailable(server: StandIn, evaluate: Evaluate, many: bool) -> None:
    """While each is another one, the next may be reached."""
    server.instances.extend(map(str, range(1000)))
    server.instances.popleft()

    with pytest.raises(lossd.Unavailable, match="/nowhere/socket is not reached from here"):
        evaluate(server.address, many, transport="shared_memory", timeout=0.5)


@pytest.mark.parametrize("many", [False, True])
def test_a_socket_that_is_not_open_yet_is_waited_for(server: StandIn, evaluate: Evaluate, many: bool) -> None:
    """A server that lacked descriptors tries again by itself."""
    server.instances.append("A")
    server.instances.popleft()
    server.shared_memory_socket = ""

    with pytest.raises(lossd.Unavailable, match="could not open its socket"):
        evaluate(server.address, many, transport="shared_memory", timeout=0.5)
    assert server.rpcs.count("GetServerInfo") > 2


@pytest.mark.parametrize("transport", ["auto", "shared_memory"])
@pytest.mark.parametrize("many", [False, True])
def test_room_for_a_connection_is_waited_for(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch, many: bool, transport: Any
) -> None:
    """Where all are taken; a call that may goes another way meanwhile."""
    turned_away: list[int] = []

    class Taken:
        """As many as are taken: all of them, when it is asked for the first three times."""

        def __gt__(self, count: int) -> bool:
            return len(turned_away) >= 3

        def __le__(self, count: int) -> bool:
            turned_away.append(count)
            return len(turned_away) <= 3

    monkeypatch.setattr(socket_server, "MAX_CONNECTIONS", Taken())
    with EmbeddedServer(Settings()) as server:
        results = evaluate(server.address, many, transport=transport)
        assert len({float(one) for one in results}) == 1
    assert len(turned_away) >= (4 if transport == "shared_memory" else 1)


def test_room_that_does_not_come_is_unavailable(evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the server's words, at the deadline."""
    monkeypatch.setattr(socket_server, "MAX_CONNECTIONS", 0)
    with (
        EmbeddedServer(Settings()) as server,
        pytest.raises(lossd.Unavailable, match="the server shares memory with 0 connections already"),
    ):
        evaluate(server.address, False, transport="shared_memory", timeout=0.5)


def test_one_answer_seen_twice_is_not_said_twice() -> None:
    """Calls that share what a server said of itself do not take it for a second answer: only that is the last word."""
    sharing = SharedMemorySession(balanced=False)
    said = [
        service_pb2.GetServerInfoResponse(
            instance_id="A",
            shared_memory_socket="/nowhere/socket",
            limits=service_pb2.Limits(max_shared_memory_bytes=1 << 20),
        )
        for _ in range(2)
    ]

    assert [(sharing.open(one)[0], sharing.may_pass) for one in (said[0], said[0], said[1])] == [
        (None, True),
        (None, True),
        (None, False),
    ]

"""Lists of addresses: both clients, health and the commands, plain and over TLS, with servers that come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd import cli
from lossd.command_line import make_certificates
from lossd.connection import aio_lifecycle, lifecycle
from lossd.rpc.credentials import VARIABLES
from lossd_server.config.settings import FRONTS, Settings
from lossd_server.server import Server
from tests.credentials import Pki
from tests.server.edge import EdgeBackend
from tests.waiting import until_awaited

X = np.arange(12, dtype=np.float32).reshape(3, 4)
Y = [0, 1, 2]


@asynccontextmanager
async def servers(count: int, **settings: Any) -> AsyncIterator[list[tuple[Server, str]]]:
    """Running ones, with their addresses."""
    found: list[tuple[Server, str]] = []
    try:
        for _ in range(count):
            server = Server(Settings(listen=("127.0.0.1:0",), **settings), EdgeBackend())
            (address,) = await server.start()
            found.append((server, address))
        yield found
    finally:
        for server, _ in found:
            await server.stop(1.0, linger_s=0.0)


def completed(running: list[tuple[Server, str]]) -> list[int]:
    return [server.metrics.evaluations()[0] for server, _ in running]


def listed(running: list[tuple[Server, str]]) -> str:
    return ",".join(address for _, address in running)


def blocking_calls(address: str, count: int, **given: Any) -> list[float]:
    with lossd.Client(address, **given) as client:
        return [float(client.cross_entropy(X, Y)) for _ in range(count)]


@pytest.mark.parametrize("front", FRONTS)
def test_calls_reach_all_of_them(front: str) -> None:
    """Those of both clients, one after the other too; each says that it serves, and who it is."""

    async def run() -> None:
        async with servers(3, front=front) as running:
            await asyncio.to_thread(blocking_calls, listed(running), 300)
            blocking = completed(running)
            async with lossd.aio.Client(listed(running)) as client:

                async def all_computed() -> bool:
                    await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(9)])
                    return all(now > then for now, then in zip(completed(running), blocking, strict=True))

                async def all_told() -> bool:
                    return len({(await client.info()).instance_id for _ in range(9)}) == 3

                await until_awaited(all_computed, "all three compute")
                await until_awaited(all_told, "all three tell of themselves")
                assert await client.health()

            assert min(blocking) > 0

    asyncio.run(run())


def test_names_are_looked_up_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that takes its time holds up nobody else; the blocking client asks in the call itself."""
    asked = []

    def slow(names: list[str]) -> dict[str, list[str]]:
        asked.append((names, threading.current_thread() is threading.main_thread()))
        return {name: ["127.0.0.1"] for name in names}

    monkeypatch.setattr(aio_lifecycle, "all_looked_up", slow)
    monkeypatch.setattr(lifecycle, "all_looked_up", slow)

    async def run() -> None:
        async with servers(2) as running:
            address = listed(running).replace("127.0.0.1", "no.such.host.invalid")
            async with lossd.aio.Client(address) as client:
                await client.cross_entropy(X, Y)
                await client.info()
            await asyncio.to_thread(blocking_calls, address, 2)

    asyncio.run(run())

    assert asked == [(["no.such.host.invalid"], False)] * 2


def test_as_many_connections_as_any_server_has_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them is asked first; each connection is to all of them."""

    async def run() -> None:
        async with servers(3) as running, lossd.aio.Client(listed(running)) as client:
            monkeypatch.setattr(running[1][0].metrics, "workers", 3)

            async def opened() -> bool:
                await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(8)])
                return len(client._opened().all) == 3

            await until_awaited(opened, "three connections")
            before = completed(running)
            await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(90)])

            assert all(now > then for now, then in zip(completed(running), before, strict=True))
            assert len(client._opened().all) == 3

    asyncio.run(run())


def test_one_that_is_not_there() -> None:
    """It is passed over from the first call on; where none is there, the error says so."""

    async def run() -> None:
        async with servers(2) as running:
            address = f"127.0.0.1:1,{listed(running)}"
            assert len(await asyncio.to_thread(blocking_calls, address, 20)) == 20
        with pytest.raises(lossd.Unavailable, match=r"nothing listens at 127\.0\.0\.1:1,127\.0\.0\.1:2;"):
            await asyncio.to_thread(blocking_calls, "127.0.0.1:1,127.0.0.1:2", 1, connect_timeout=2.0)

    asyncio.run(run())


@pytest.mark.parametrize("transport", ["unary", "stream"])
def test_one_that_ends(transport: Any) -> None:
    """Calls that come while it drains, and after, are answered by the other: one message or a stream."""

    async def run() -> None:
        async with servers(2) as running, lossd.aio.Client(listed(running)) as client:
            over = asyncio.Event()

            async def calls() -> int:
                count = 0
                while not over.is_set() or count < 10:
                    await client.cross_entropy(X, Y, transport=transport)
                    count += 1
                return count

            calling = [asyncio.create_task(calls()) for _ in range(4)]
            await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(8)])
            await running[0][0].stop(5.0)
            over.set()

            assert min(await asyncio.gather(*calling)) >= 10

    asyncio.run(run())


def test_commands_take_lists(capsys: pytest.CaptureFixture[str]) -> None:
    """Health, and info with the utilisation."""

    async def run() -> None:
        async with servers(2) as running:
            assert await asyncio.to_thread(cli.main, ["health", "--server", listed(running)]) == 0
            assert await asyncio.to_thread(cli.main, ["info", "--server", listed(running)]) == 0

    asyncio.run(run())
    said = capsys.readouterr().out
    assert said.startswith("serving\n")
    assert "\nutilization " in said


@pytest.fixture
def by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Pki]:
    """Certificates for one name each, and for both an authority that signed them."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    found = {}
    for name in ("localhost", "127.0.0.1"):
        monkeypatch.setattr(make_certificates, "LOCAL_NAMES", (name,))
        found[name] = Pki(tmp_path / name)
        found[name].renew()
    both = b"".join(Path(one.ca_pem).read_bytes() for one in found.values())
    for one in found.values():
        Path(one.ca_pem).write_bytes(both)
    return found


@pytest.mark.parametrize("swapped", [False, True])
def test_each_host_is_verified_by_its_own_name(by_name: dict[str, Pki], swapped: bool) -> None:
    """Calls reach both where each has a certificate of its name; none where each has that of the other."""
    local, number = by_name["localhost"], by_name["127.0.0.1"]
    if swapped:
        local, number = number, local

    async def run() -> None:
        async with servers(1, **local.serving) as first, servers(1, **number.serving) as second:
            port = first[0][1].rpartition(":")[2]
            address = f"localhost:{port},{second[0][1]}"
            given: dict[str, Any] = {"ca": local.ca_pem, "connect_timeout": 1.0}
            if swapped:
                with pytest.raises(lossd.Unavailable) as caught:
                    await asyncio.to_thread(blocking_calls, address, 1, **given)
                assert caught.value.reason == "NOT_THAT_HOST"
                return
            await asyncio.to_thread(blocking_calls, address, 10, **given)
            async with lossd.aio.Client(address, **given) as client:
                await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(10)])
                await client.cross_entropy(X, Y, transport="stream")

            assert min(completed([*first, *second])) >= 5

    asyncio.run(run())

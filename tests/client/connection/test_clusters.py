"""Ray clusters as clients see them: who answers is asked over HTTP, and asked again."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

import lossd
from tests.client.connection.test_lists import X, Y, completed, servers
from tests.client.ray_head import ray_head
from tests.credentials import Pki
from tests.waiting import until_awaited


def test_calls_reach_servers_that_come() -> None:
    """Of both clients, small and streamed: one server, then another in its place, without a failure."""

    async def run() -> None:
        over = threading.Event()

        def blocking(address: str) -> int:
            count = 0
            with lossd.Client(address) as client:
                while not over.is_set():
                    client.cross_entropy(X, Y)
                    count += 1
            return count

        async with servers(1) as first, servers(2) as later:
            now = [first[0][1]]
            with ray_head(lambda: now) as address:
                calls = asyncio.create_task(asyncio.to_thread(blocking, address))
                async with lossd.aio.Client(address) as client:
                    await client.cross_entropy(X, Y)
                    assert await client.health()
                    await until_awaited(lambda: completed(first)[0] > 5, "calls at the first")
                    assert completed(later) == [0, 0]
                    now[:] = [address for _, address in later]
                    while min(completed(later)) < 5:
                        await client.cross_entropy(X, Y)
                    large = np.zeros((3000, 2000), np.float32)
                    await client.cross_entropy(large, np.zeros(3000, np.int64))
                    await first[0][0].stop(1.0, linger_s=0.0)
                    before = sum(completed(later))
                    await until_awaited(lambda: sum(completed(later)) > before + 10, "calls at the later ones")
                over.set()
                assert await calls > 10

    asyncio.run(run())


def test_nobody_there() -> None:
    """Unavailable with the reason, once the time to connect is over; a server that comes in it is found."""
    with ray_head(list) as address:
        with lossd.Client(address, connect_timeout=0.3) as client, pytest.raises(lossd.Unavailable) as caught:
            client.cross_entropy(X, Y)
        assert caught.value.reason == "NO_SERVER_LIST"

        async def run() -> None:
            with pytest.raises(lossd.Unavailable) as caught:
                async with lossd.aio.Client(address, connect_timeout=0.3) as client:
                    await client.cross_entropy(X, Y)
            assert caught.value.reason == "NO_SERVER_LIST"

        asyncio.run(run())


def test_one_attempt_says_why() -> None:
    """That of health, which is not repeated."""
    with ray_head(list) as address:
        pass
    with lossd.Client(address) as client, pytest.raises(lossd.Unavailable, match="refused"):
        client.health()


def test_a_server_that_comes_late() -> None:
    """Within the time to connect."""

    async def run() -> None:
        async with servers(1) as late:
            asked = 0

            def now() -> list[str]:
                nonlocal asked
                asked += 1
                return [late[0][1]] if asked > 2 else []

            with ray_head(now) as address:
                async with lossd.aio.Client(address) as client:
                    await client.cross_entropy(X, Y)
                assert completed(late) == [1]

    asyncio.run(run())


def test_tls(tmp_path: Path) -> None:
    """Each server is verified by the address that the cluster tells; a token goes by TLS only."""

    pki = Pki(tmp_path)
    pki.renew()

    async def run() -> None:
        async with servers(2, **pki.serving) as running:
            with ray_head(lambda: [address for _, address in running]) as address:
                async with lossd.aio.Client(address, **pki.trusting) as client:
                    while min(completed(running)) == 0:
                        await client.cross_entropy(X, Y)
                with pytest.raises(lossd.InvalidArgument, match="by TLS only"):
                    lossd.Client(address, token="secret")

    asyncio.run(run())

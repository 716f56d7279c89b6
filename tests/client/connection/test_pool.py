"""Clients of a server that is several processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.request.build import build
from lossd.rpc.retry import Retry
from tests.client.stand_in import StandIn
from tests.server.processes.worker_processes import children, instances, two_workers
from tests.waiting import until, until_awaited

X = np.arange(12, dtype=np.float32).reshape(3, 4)
Y = [0, 1, 2]
LARGE = np.zeros((1024, 1024), np.float32)


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Two processes on one port, both there."""
    with two_workers() as (child, address):
        instances(address, 2)
        yield child, address


def at_once(client: lossd.Client, count: int, call: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def opened(client: lossd.Client) -> lossd.Client:
    """The client, after as many calls at once as it takes to reach both processes."""

    def both() -> bool:
        at_once(client, 8, lambda _: client.cross_entropy(X, Y))
        return len(client._opened().all) == 2

    until(both, "calls at once reach both processes")
    return client


async def opened_aio(client: lossd.aio.Client) -> lossd.aio.Client:
    async def both() -> bool:
        await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(8)])
        return len(client._opened().all) == 2

    await until_awaited(both, "calls at once reach both processes")
    return client


def test_calls_of_threads_reach_both_processes(workers: tuple[Any, str]) -> None:
    """A connection to each, and each has carried calls that were answered."""
    with lossd.Client(workers[1]) as client:
        connections = opened(client)._opened().all
        first, second = connections
        found = {one.ask(Retry(10)).instance_id for one in connections}
        held = client._opened().take()
        other = client._opened().take()

        assert found == instances(workers[1], 2)
        assert {held, other} == {first, second}
        client._opened().leave(held)
        client._opened().leave(other)
        assert float(client.cross_entropy(X, Y)) == float(client.cross_entropy(X, Y, transport="unary"))
        assert [one.in_flight for one in connections] == [0, 0]


def test_tasks_reach_both_processes(workers: tuple[Any, str]) -> None:
    """A connection to each, and on each a stream that small calls share."""

    async def main() -> None:
        async with lossd.aio.Client(workers[1]) as client:
            connections = (await opened_aio(client))._opened().all
            results = await asyncio.gather(*[client.cross_entropy(X, Y) for _ in range(64)])

            assert {(await one.ask(Retry(10))).instance_id for one in connections} == instances(workers[1], 2)
            assert len({float(result) for result in results}) == 1
            assert all(one._shared is not None and one._shared.is_open for one in connections)
            assert [one.in_flight for one in connections] == [0, 0]

    asyncio.run(main())


def test_one_caller_at_a_time_has_one_connection(workers: tuple[Any, str]) -> None:
    """However many calls it makes."""

    async def main() -> int:
        async with lossd.aio.Client(workers[1]) as client:
            for _ in range(50):
                await client.cross_entropy(X, Y)
            return len(client._opened().all)

    with lossd.Client(workers[1]) as client:
        for _ in range(50):
            client.cross_entropy(X, Y)

        assert len(client._opened().all) == 1
    assert asyncio.run(main()) == 1


def test_an_array_in_shared_memory_goes_where_it_lies(workers: tuple[Any, str]) -> None:
    """Each process has its own regions; any other array goes by whichever connection is least busy."""
    with lossd.Client(workers[1]) as client:
        connections = opened(client)._opened().all
        for one in connections:
            regions, why = one.sharing.open(one.known(Retry(10)))
            assert regions is not None, why
            x = regions.empty(LARGE.shape, LARGE.dtype)
            x[:] = 0

            assert client._opened().take_sharing(build("entropy", x)) is one
            client._opened().leave(one)
            assert float(client.entropy(x, kind="logits", transport="shared_memory")) == pytest.approx(np.log(1024))
        assert float(client.entropy(LARGE, kind="logits")) == pytest.approx(np.log(1024))


def test_a_killed_process_costs_retries_only() -> None:
    """Calls of both clients that are under way when one of two processes dies are answered."""

    async def main(address: str, pid: int) -> list[float]:
        async with lossd.aio.Client(address) as client:
            await opened_aio(client)
            tasks = [asyncio.ensure_future(client.cross_entropy(X, Y)) for _ in range(256)]
            await tasks[0]
            os.kill(pid, signal.SIGKILL)
            tasks += [asyncio.ensure_future(client.cross_entropy(X, Y)) for _ in range(256)]
            return [float(one) for one in await asyncio.gather(*tasks)]

    with two_workers() as (child, address):
        instances(address, 2)
        with lossd.Client(address) as client:
            opened(client)
            found = asyncio.run(main(address, children(child.pid)[0]))
            found += at_once(client, 16, lambda _: float(client.cross_entropy(X, Y)))

    assert len(found) == 512 + 16
    assert len(set(found)) == 1


@pytest.mark.parametrize("prefix", ["", "dns:///"])
def test_a_server_that_is_one_process_gets_one_connection(server: StandIn, prefix: str) -> None:
    """And so does a name of several servers that are one process each."""
    with lossd.Client(prefix + server.address) as client:
        for _ in range(4):
            at_once(client, 8, lambda i: client.entropy(np.full((1, 4), i, np.float32)))

        assert len(client._opened().all) == 1

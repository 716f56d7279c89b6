"""Items of `map` that a full server refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.errors import Overloaded
from tests.client.stand_in import StandIn
from tests.waiting import until


def x(value: float) -> Any:
    return np.full((2, 3), value, np.float32)


class EnoughError(Exception):
    pass


def until_most_are_sent(server: StandIn) -> None:
    until(lambda: sum(len(one.opens.opens) for said in server.streams for one in said) > 200, "two hundred items")


def test_a_refused_item_holds_up_no_other(server: StandIn) -> None:
    """Those after it are read and sent while it waits for its time: here an hour."""
    server.failures.append(Overloaded("the server is full", reason="OVERLOADED", retry_after_s=3600.0))

    def items() -> Iterator[Any]:
        yield from map(x, range(600))
        until_most_are_sent(server)
        raise EnoughError

    with lossd.Client(server.address) as client, pytest.raises(EnoughError):
        list(client.map("entropy", items(), timeout=1e6, window=10_000))


def test_a_refused_item_holds_up_no_other_of_a_loop(server: StandIn) -> None:
    """The same of the awaitable client, whose loop goes on while an item is waited for."""
    server.failures.append(Overloaded("the server is full", reason="OVERLOADED", retry_after_s=3600.0))

    async def items() -> AsyncIterator[Any]:
        for one in map(x, range(600)):
            yield one
        await asyncio.to_thread(until_most_are_sent, server)
        raise EnoughError

    async def main() -> None:
        async with lossd.aio.Client(server.address) as client:
            async for _ in client.map("entropy", items(), timeout=1e6, window=10_000):
                pass

    with pytest.raises(EnoughError):
        asyncio.run(main())

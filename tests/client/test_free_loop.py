"""The asynchronous client's loop stays free: what takes long runs in another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lossd
from lossd import results
from lossd.connection import aio_connection
from lossd.request import build, tensors
from lossd.routing import mean_denominator, route
from lossd.shared_memory.arena import Arena
from lossd.streaming.block_messages import Sending
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer

ROWS, CLASSES = 3000, 1000
X = np.zeros((ROWS, CLASSES), np.float32)
Y = np.arange(ROWS) % CLASSES

Client = lossd.aio.Client
Work = Callable[[Client], Awaitable[Any]]
Watch = Callable[[Any, str], list[bool]]


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    with EmbeddedServer(Settings()) as shared, EmbeddedServer(Settings(max_shared_memory_bytes=0)) as apart:
        yield {"shared": shared.address, "apart": apart.address}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Whether each call of `owner.name` came from the loop's thread."""

    def watched(owner: Any, name: str) -> list[bool]:
        on_loop: list[bool] = []
        function = getattr(owner, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            on_loop.append(threading.current_thread() is threading.main_thread())
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)
        return on_loop

    return watched


def run(address: str, work: Work) -> None:
    async def main() -> None:
        async with Client(address) as client:
            await work(client)

    asyncio.run(main())


async def every(client: Client, **options: Any) -> None:
    await client.cross_entropy(X, Y, grad=True, **options)
    async for _ in client.map("cross_entropy", [(X, Y)], grad=True, **options):
        pass


def test_memory_is_shared_beside_the_loop(addresses: dict[str, str], watch: Watch) -> None:
    """Made, filled and given up."""
    made, lent, ended = watch(Arena, "_new"), watch(Arena, "lend"), watch(Arena, "close")

    async def work(client: Client) -> None:
        await client.empty(1 << 20)
        await every(client)

    run(addresses["shared"], work)

    for seen in (made, lent, ended):
        assert seen
        assert not any(seen)


def test_denominators_are_added_beside_the_loop(addresses: dict[str, str], watch: Watch) -> None:
    """Before the first block of a mean whose targets come in blocks."""
    labels = np.zeros(1 << 18, np.int64)
    x = np.zeros((len(labels), 4), np.float32)
    added = watch(mean_denominator, "denominator")

    run(addresses["apart"], lambda client: client.cross_entropy(x, labels, grad=True, transport="stream"))

    assert added == [False]


@pytest.mark.parametrize("where", ["shared", "apart"])
def test_mapped_files_are_read_beside_the_loop(
    addresses: dict[str, str], watch: Watch, tmp_path: Path, where: str
) -> None:
    """Every block of them, and progress is told on the loop all the same."""
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    read = watch(Sending, "_block")
    told: list[bool] = []

    async def work(client: Client) -> None:
        def progress(done: int, items: int) -> None:
            told.append(threading.current_thread() is threading.main_thread())

        await client.cross_entropy(mapped, Y, grad=True, progress=progress)
        async for _ in client.map("cross_entropy", [(mapped, Y)], grad=True):
            pass

    run(addresses[where], work)

    assert len(read) > 10
    assert not any(read)
    assert told
    assert all(told)


@pytest.mark.parametrize("transport", ["unary", "shared_memory"])
def test_large_messages_are_written_and_read_beside_the_loop(
    addresses: dict[str, str], watch: Watch, transport: Any
) -> None:
    """The request's bytes, and gradients that are copied to where the caller wants them."""
    written, given = watch(build.Call, "body"), watch(results, "_gradient")
    out = np.empty_like(X[:2000])

    run(
        addresses["shared"],
        lambda client: client.cross_entropy(X[:2000], Y[:2000], grad=True, out=out, transport=transport),
    )

    assert written == [transport == "shared_memory"]  # whose message says where the tensors lie
    assert given == [False]


class Slow:
    """An array that is converted when it is read, and does not say how large it is."""

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return X


@pytest.mark.parametrize("given", [Slow(), np.zeros((2, 10_000)).tolist(), list(np.zeros((20, 1000)))])
def test_conversions_run_beside_the_loop(addresses: dict[str, str], watch: Watch, given: Any) -> None:
    """Of lists and of foreign arrays, of a call or of an item."""
    converted = watch(tensors, "_as_numpy")

    async def work(client: Client) -> None:
        await client.entropy(given, kind="logits")
        async for _ in client.map("entropy", [given, (given,), {"input": given}], kind="logits"):
            pass

    run(addresses["shared"], work)

    assert converted == [False] * 4


def test_small_calls_stay_on_the_loop(addresses: dict[str, str], watch: Watch) -> None:
    """A thread would cost more than they do."""
    handed = [watch(module, "run_blocking") for module in (lossd.aio, aio_connection)]
    routed = watch(route, "mean_denominator")

    async def work(client: Client) -> None:
        await client.cross_entropy(X[:4, :8], [0, 1, 2, 3], grad=True)
        async for _ in client.map("cross_entropy", [(X[:4, :8], [0, 1, 2, 3])]):
            pass
        assert [*handed[0], *handed[1], *routed] == []

    run(addresses["shared"], work)

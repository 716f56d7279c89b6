"""Shared memory with a server on this host, and without it where it cannot be."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd.shared_memory.arena import Arena, Loan
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory is Linux's")

X = np.linspace(-3, 3, 400 * 1000, dtype=np.float32).reshape(400, 1000)
Y = np.arange(400)


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    with lossd.Client("embedded") as client:
        yield client


def regions(client: lossd.Client) -> Arena:
    found = client._connection().sharing.open(client._connection().known(client._retry(None)))[0]
    assert found is not None
    return found


def test_large_calls_are_shared_without_being_asked_to(client: lossd.Client) -> None:
    """The gradient lies in a region, which is the proof."""
    grad = client.cross_entropy(X, Y, grad=True).grad

    assert regions(client).find(grad) is not None
    assert grad.tobytes() == client.cross_entropy(X, Y, grad=True, transport="unary").grad.tobytes()


def test_an_array_of_empty_is_not_copied(client: lossd.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the way there nor back: no memory is lent for it."""
    x, out = client.empty((400, 1000)), client.empty((400, 1000))
    x[:] = X
    lent: list[int] = []
    lend = Arena.lend

    def noted(arena: Arena, nbytes: int) -> Loan:
        lent.append(nbytes)
        return lend(arena, nbytes)

    monkeypatch.setattr(Arena, "lend", noted)

    result = client.cross_entropy(x, Y, grad=True, out=out, transport="shared_memory")

    assert lent == []
    assert result.grad is out
    assert out.tobytes() == client.cross_entropy(X, Y, grad=True, transport="unary").grad.tobytes()


def test_empty_has_the_shape_and_dtype_that_are_asked_for(client: lossd.Client) -> None:
    """float32 by default."""
    assert client.empty(3).shape == (3,)
    assert client.empty(3).dtype == np.dtype(np.float32)
    assert client.empty((2, 0), np.int64).shape == (2, 0)
    assert client.empty((), "f2").dtype == np.dtype(np.float16)


def test_gradients_outlive_their_call(client: lossd.Client) -> None:
    """Views too: their memory is lent to nobody else while one is held."""
    first = client.cross_entropy(X, Y, grad=True).grad[7:8]
    kept = first.copy()
    gc.collect()
    for _ in range(5):
        client.cross_entropy(-X, Y, grad=True)

    assert first.tobytes() == kept.tobytes()


def test_gradients_outlive_their_client() -> None:
    """The mapping goes with the last array."""
    with lossd.Client("embedded") as client:
        grad = client.cross_entropy(X, Y, grad=True).grad
        kept = grad.copy()

    assert grad.tobytes() == kept.tobytes()


def test_torch_gradients_lie_in_regions_too(client: lossd.Client) -> None:
    """As torch's, without a copy."""
    grad = client.cross_entropy(torch.tensor(X), Y, grad=True).grad

    assert isinstance(grad, torch.Tensor)
    assert regions(client).find(grad.numpy()) is not None


def test_large_items_of_a_map_are_shared(client: lossd.Client) -> None:
    """Between small ones, in order."""
    small = (X[:2, :8].copy(), np.array([0, 1]))

    results = list(client.map("cross_entropy", [small, (X, Y), small, (X, Y)], grad=True))

    assert regions(client).find(results[1].grad) is not None
    assert results[1].grad.tobytes() == results[3].grad.tobytes()
    assert results[0].grad.tobytes() == client.cross_entropy(*small, grad=True).grad.tobytes()


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_a_server_that_was_replaced_gets_new_regions(tmp_path: Path, many: bool, anew: bool) -> None:
    """A token that it does not know is no failure: memory is registered again, arrays of the old one are copied."""
    client: Any = None
    for round_ in range(2):
        with EmbeddedServer(Settings()) as server:
            link = tmp_path / "socket"
            link.unlink(missing_ok=True)
            link.symlink_to(server.address.removeprefix("unix:"))
            if client is None:
                client = lossd.Client(f"unix:{link}")
                x = client.empty(X.shape)
                x[:] = X
            elif anew:
                x = client.empty(X.shape)
                x[:] = X
            if many:
                (result,) = client.map("cross_entropy", [(x, Y)], grad=True)
            else:
                result = client.cross_entropy(x, Y, grad=True)
            if not round_ or not many:
                assert regions(client).find(result.grad) is not None
            assert float(result) == float(client.cross_entropy(X, Y, transport="unary"))
    client.close()


def test_a_server_without_shared_memory_is_served_otherwise() -> None:
    """And `shared_memory` says that there is none."""
    with EmbeddedServer(Settings(shared_memory_socket="off")) as server, lossd.Client(server.address) as client:
        assert client.empty(3).shape == (3,)
        assert client.cross_entropy(X, Y, grad=True).grad.shape == X.shape
        with pytest.raises(lossd.InvalidArgument, match="the server offers no shared memory"):
            client.cross_entropy(X, Y, transport="shared_memory")


def test_no_room_in_shared_memory_is_another_way(client: lossd.Client) -> None:
    """Unless shared memory was asked for."""
    with EmbeddedServer(Settings(max_shared_memory_bytes=1 << 16)) as server, lossd.Client(server.address) as full:
        assert full.empty((1 << 20,)).shape == (1 << 20,)
        same = full.cross_entropy(X, Y, grad=True).grad.tobytes()
        assert same == client.cross_entropy(X, Y, grad=True).grad.tobytes()
        with pytest.raises(lossd.TooLarge, match="this server takes 65536 in all"):
            full.cross_entropy(X, Y, transport="shared_memory")


def test_a_refused_call_gives_its_memory_back(client: lossd.Client) -> None:
    """However many are refused, their errors kept, there are no more regions than after one that was answered."""
    client.cross_entropy(X, Y, grad=True)
    before = len(regions(client)._places[1])
    kept = []
    for _ in range(20):
        with pytest.raises(lossd.InvalidArgument, match=r"target\[3\]") as caught:
            client.cross_entropy(X, np.where(Y == 3, 5000, Y), grad=True)
        kept.append(caught.value)  # its traceback holds the call, and that its arrays

    assert len(regions(client)._places[1]) <= before


def test_the_awaitable_client_shares_memory() -> None:
    """Many calls at once, each with its own."""

    async def main() -> None:
        async with lossd.aio.Client("embedded") as client:
            x = await client.empty(X.shape)
            x[:] = X
            results = await asyncio.gather(*[client.cross_entropy(x, Y, grad=True) for _ in range(8)])
            assert len({result.grad.tobytes() for result in results}) == 1
            starts = {result.grad.__array_interface__["data"][0] for result in results}
            assert len(starts) == 8

    asyncio.run(main())


def test_a_python_without_memfds_sends_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some builds lack os.memfd_create: then there is no shared memory."""
    monkeypatch.delattr("os.memfd_create")
    with EmbeddedServer(Settings()) as server, lossd.Client(server.address) as client:
        assert client.empty(1 << 20).shape == (1 << 20,)
        assert client.cross_entropy(X, Y, grad=True).grad.shape == X.shape

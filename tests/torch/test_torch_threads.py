"""Threads: the mode belongs to one, clients to whoever names them, backward to PyTorch's own threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
import lossd.torch
from tests.torch.losses import calls_of_losses
from tests.torch.routes import ROUTES, calls, local

ROUNDS = 10


@pytest.fixture(scope="module")
def other() -> Iterator[lossd.Client]:
    """Of a second server."""
    with lossd.Client("embedded") as client:
        yield client


def together(*works: Callable[[Barrier], None]) -> None:
    """Each in a thread of its own; a barrier holds them abreast."""
    barrier = Barrier(len(works), timeout=60)
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work, barrier) for work in works]:
            future.result(timeout=120)


@pytest.mark.parametrize("route", ROUTES)
def test_two_threads_and_two_clients(client: lossd.Client, other: lossd.Client, route: str) -> None:
    """Each thread's losses go to its own server, at the same time; gradients are right in both."""
    call = calls_of_losses()["cross_entropy of classes"]
    expected = call.gradients(local)

    def work(one: lossd.Client) -> Callable[[Barrier], None]:
        def of(barrier: Barrier) -> None:
            for _ in range(ROUNDS):
                barrier.wait()
                for ours, theirs in zip(call.gradients(ROUTES[route], one), expected, strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

        return of

    before = calls(client), calls(other)
    together(work(client), work(other))

    assert (calls(client) - before[0], calls(other) - before[1]) == (ROUNDS, ROUNDS)


def test_the_mode_is_of_its_thread(client: lossd.Client, other: lossd.Client) -> None:
    """While two threads are inside `remote` of different clients, a third computes by itself."""
    call = calls_of_losses()["cross_entropy of classes"]
    found: dict[str, Tensor] = {}

    def inside(name: str, one: lossd.Client) -> Callable[[Barrier], None]:
        def of(barrier: Barrier) -> None:
            with lossd.torch.remote(one):
                barrier.wait()
                found[name] = call.gradients(local)[1]
                barrier.wait()

        return of

    def outside(barrier: Barrier) -> None:
        barrier.wait()
        found["outside"] = call.gradients(local)[1]
        barrier.wait()

    before = calls(client), calls(other)
    together(inside("first", client), inside("second", other), outside)

    assert (calls(client) - before[0], calls(other) - before[1]) == (1, 1)
    for one in found.values():
        torch.testing.assert_close(one, found["outside"], rtol=1e-12, atol=1e-12)


def test_a_mode_inside_another(client: lossd.Client, other: lossd.Client) -> None:
    """The innermost decides; after it the outer one does again, and after an exception none is left."""
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    before = calls(client), calls(other)
    with lossd.torch.remote(client):
        F.cross_entropy(x, y)
        with lossd.torch.remote(other):
            F.cross_entropy(x, y)
        F.cross_entropy(x, y)
    with pytest.raises(IndexError), lossd.torch.remote(client):
        F.cross_entropy(x, y + 7)
    F.cross_entropy(x, y)

    assert (calls(client) - before[0], calls(other) - before[1]) == (2, 1)


def test_a_mode_can_be_entered_again(client: lossd.Client) -> None:
    """One object, used for every step."""
    mode = lossd.torch.remote(client)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    before = calls(client)
    for _ in range(3):
        with mode:
            F.cross_entropy(x, y)

    assert calls(client) - before == 3


def test_backward_in_another_thread(client: lossd.Client) -> None:
    """A graph made in one thread is differentiated in another, inside or outside of a mode."""
    call = calls_of_losses()["bce_with_logits"]
    expected = call.gradients(local)[1]
    for route in ROUTES.values():
        leaves = call.leaves
        loss = call.compute(route, client, leaves)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loss.backward).result(timeout=60)

        torch.testing.assert_close(leaves["input"].grad, expected, rtol=1e-12, atol=1e-12)


def test_a_default_client(client: lossd.Client, other: lossd.Client) -> None:
    """set_client names the one of calls that name none, for every thread; client= prevails."""
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = lossd.torch.functional.cross_entropy
    before = calls(client), calls(other)
    lossd.torch.set_client(client)
    try:
        loss(x, y)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loss, x, y).result(timeout=60)
        lossd.torch.nn.CrossEntropyLoss()(x, y)
        loss(x, y, client=other)
    finally:
        lossd.torch.set_client(None)

    assert (calls(client) - before[0], calls(other) - before[1]) == (3, 1)


def test_inside_a_running_loop(client: lossd.Client) -> None:
    """A coroutine may call it, as notebooks do: it blocks, and answers."""

    async def of() -> Tensor:
        return lossd.torch.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), client=client)

    torch.testing.assert_close(asyncio.run(of()), torch.tensor(3.0).log())

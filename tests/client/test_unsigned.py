"""Labels and counts without a sign: the answers are those of int64, by every way and with either client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.embedded import EmbeddedServer

ROWS, CLASSES = 300_000, 3
WAYS: list[Any] = ["auto", "unary", "stream", "shared_memory"]
DTYPES = ["uint16", "uint32", "uint64"]
X = np.random.default_rng(0).normal(size=(ROWS, CLASSES)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, CLASSES, ROWS)
COUNTS = np.random.default_rng(2).integers(1, 60_000, (ROWS, CLASSES))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[lossd.Client]:
    with lossd.Client(address) as client:
        yield client


def stored(folder: Path, array: Any) -> Any:
    """As a file that is mapped into memory."""
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("rows", [5, ROWS], ids=["small", "large"])
@pytest.mark.parametrize("mapped", [False, True], ids=["array", "file"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_labels_and_counts_mean_the_same(
    way: Any, dtype: str, mapped: bool, rows: int, client: lossd.Client, tmp_path: Path
) -> None:
    """Bit by bit, with the gradient; of large ones some are sent in blocks, and some lie in shared memory."""
    x, labels, counts = X[:rows], Y[:rows].astype(dtype), COUNTS[:rows].astype(dtype)
    if mapped:
        labels = stored(tmp_path, labels)

    found = client.cross_entropy(x, labels, grad=True, transport=way)
    expected = client.cross_entropy(x, Y[:rows], grad=True, transport=way)
    entropy = client.entropy(counts, kind="counts", reduction="none", transport=way)

    assert (found.loss, found.summary) == (expected.loss, expected.summary)
    assert np.array_equal(found.grad, expected.grad)
    assert np.array_equal(entropy.loss, client.entropy(COUNTS[:rows], kind="counts", reduction="none").loss)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_in_shared_memory_are_not_taken_for_signed_ones(dtype: str, client: lossd.Client) -> None:
    """Those of 32 bits and less are copied there in the width that is sent."""
    labels = client.empty(ROWS, dtype)
    labels[:] = Y

    assert client.nll(X, labels).summary == client.nll(X, Y).summary


@pytest.mark.parametrize("rows", [5, ROWS], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_a_label_that_does_not_fit_is_refused_by_every_way(
    way: Any, rows: int, address: str, client: lossd.Client
) -> None:
    """With its place, before anything of it is sent."""
    labels = Y[:rows].astype(np.uint64)
    labels[4] = 2**64 - 100  # -100 that was stored without its sign
    said = r"target\[4\] = 18446744073709551516 does not fit int64"

    async def awaited() -> None:
        async with lossd.aio.Client(address) as other:
            await other.cross_entropy(X[:rows], labels, transport=way)

    with pytest.raises(lossd.InvalidArgument, match=said):
        client.cross_entropy(X[:rows], labels, transport=way)
    with pytest.raises(lossd.InvalidArgument, match=said):
        asyncio.run(awaited())
    if way == "auto":
        items = [(X[:5], Y[:5]), (X[:rows], labels), (X[:5], Y[:5])]
        first, second, third = (getattr(one, "loss", one) for one in client.map("cross_entropy", items, errors="yield"))
        assert "does not fit int64" in str(second)
        assert first == third

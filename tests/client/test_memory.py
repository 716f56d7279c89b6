"""Memory of the caller's: what is read when, and what is written over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.backends import Backend
from lossd_server.embedded import EmbeddedServer

TRANSPORTS = ("unary", "stream", "shared_memory")
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def address(numba: Backend) -> Iterator[str]:
    with EmbeddedServer(backend=numba) as server:
        yield server.address


@pytest.fixture(params=["blocking", "awaitable"])
def client(request: pytest.FixtureRequest, address: str) -> Iterator[Any]:
    """Either client, its `call`, `map` and `empty` as blocking functions."""
    if request.param == "blocking":
        with lossd.Client(address) as blocking:
            yield Blocking(blocking)
    else:
        with asyncio.Runner() as runner:
            awaitable = lossd.aio.Client(address)
            yield Awaited(awaitable, runner)
            runner.run(awaitable.close())


class Blocking:
    def __init__(self, client: lossd.Client) -> None:
        self._client = client

    def call(self, method: str, *tensors: Any, **options: Any) -> Any:
        return getattr(self._client, method)(*tensors, **options)

    def map(self, method: Any, items: Any, **options: Any) -> list[Any]:
        return list(self._client.map(method, items, **options))

    def empty(self, shape: Any) -> Any:
        return self._client.empty(shape)


class Awaited:
    def __init__(self, client: lossd.aio.Client, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def call(self, method: str, *tensors: Any, **options: Any) -> Any:
        async def main() -> Any:
            return await getattr(self._client, method)(*tensors, **options)

        return self._runner.run(main())

    def map(self, method: Any, items: Any, **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            return [one async for one in self._client.map(method, items, **options)]

        return self._runner.run(main())

    def empty(self, shape: Any) -> Any:
        return self._runner.run(self._client.empty(shape))


@pytest.mark.parametrize("transport", ["auto", *TRANSPORTS])
@pytest.mark.parametrize("rows", [4, 5000])
@pytest.mark.parametrize("shared", [False, True])
def test_a_generator_may_refill_its_buffer(client: Any, transport: str, rows: int, shared: bool) -> None:
    """An item's numbers are those that its arrays had when it was read, wherever they lie."""
    buffer = client.empty((rows, 64)) if shared else np.empty((rows, 64), np.float32)
    labels = np.zeros(rows, np.int64)
    count = 12 if rows > 100 else 60

    def items() -> Iterator[Any]:
        for number in range(count):
            buffer[:] = 0.0
            buffer[:, 0] = number
            labels[:] = number % 3
            yield buffer, labels
        buffer[:] = np.nan

    results = client.map("cross_entropy", items(), transport=transport, reduction="sum")

    expected = [rows * ((0 if n % 3 == 0 else n) + np.log1p(63 * np.exp(-n))) for n in range(count)]
    np.testing.assert_allclose([float(one) for one in results], expected, rtol=1e-5)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", ["cross_entropy", "bce_with_logits"])
def test_a_gradient_in_the_place_of_its_input(client: Any, transport: str, shared: bool, method: str) -> None:
    """`out is input` has the bits of a gradient that lies elsewhere."""
    logits = RNG.standard_normal((3000, 100)).astype(np.float32)
    target = RNG.integers(0, 100, 3000) if method == "cross_entropy" else RNG.random((3000, 100), np.float32)
    elsewhere = client.call(method, logits, target, grad=True, transport=transport)
    array = client.empty(logits.shape) if shared else np.empty_like(logits)
    array[:] = logits
    result = client.call(method, array, target, grad=True, out=array, transport=transport)

    assert result.grad is array
    assert array.tobytes() == elsewhere.grad.tobytes()
    assert result.loss.tobytes() == elsewhere.loss.tobytes()


def test_an_item_without_its_tensor(client: Any) -> None:
    """A name that is nearly right is told with the right one."""
    with pytest.raises(TypeError, match="has no 'input', it has 'inputs', 'target'; did you mean 'input'"):
        client.map("cross_entropy", [{"inputs": [[1.0, 2.0]], "target": [0]}])


@pytest.mark.parametrize(
    "rows",
    [
        [np.ma.array([1.0, 2.0], mask=[True, False]), np.ma.array([0.5, 1.0])],
        [[1.0, np.ma.masked], [0.5, 1.0]],
        ([0.5, 1.0], [1.0, np.ma.masked]),
    ],
)
def test_masks_inside_lists_are_not_lost(client: Any, rows: Any) -> None:
    """numpy would fill them with what lies below: a list of masked rows is refused as a masked array is."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        client.call("cross_entropy", rows, [0, 1])

    assert (caught.value.field, caught.value.reason) == ("input", "MASKED_ARRAY")

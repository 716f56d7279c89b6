"""Calls that are made again and again, by either client, alone and in a map, against a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lossd
from lossd.fast_path.request_template import MOST_BYTES
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.client.fast_path.alike import told

RNG = np.random.default_rng(3)
X = RNG.standard_normal((8, 16), np.float32)
P = RNG.random((8, 16), np.float32)
Y = RNG.integers(0, 16, 8)
W = RNG.random(16, np.float32)
CALLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "mean": ("cross_entropy", (X, Y), {}),
    "gradient": ("cross_entropy", (X, Y), {"grad": True}),
    "weights": ("cross_entropy", (X, Y), {"weight": W, "reduction": "none", "grad": True}),
    "outputs": ("cross_entropy", (X, Y), {"outputs": "lse"}),
    "elements": ("bce_with_logits", (X, P), {"reduction": "none"}),
    "columns": ("bce_with_logits", (X.T, P.T), {"pos_weight": W[:, None]}),
    "float64": ("self_information", (P.astype(np.float64),), {"base": 2}),
    "empty": ("bce", (P[:0], P[:0]), {"reduction": "sum"}),
}
REPEATS = 4
Repeat = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Of a server as servers are, and of one whose messages are smaller."""
    with (
        EmbeddedServer(Settings()) as usual,
        EmbeddedServer(Settings(max_message_bytes=1 << 16, max_shared_memory_bytes=0)) as small,
    ):
        yield {"usual": usual.address, "small": small.address}


def blocking(address: str, method: str, operands: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    with lossd.Client(address) as client:
        return [getattr(client, method)(*operands, **options) for _ in range(REPEATS)]


def mapped(address: str, method: str, operands: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    with lossd.Client(address) as client:
        return list(client.map(method, [operands] * REPEATS, **options))


def awaited(address: str, method: str, operands: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    async def main() -> list[Any]:
        async with lossd.aio.Client(address) as client:
            return [await getattr(client, method)(*operands, **options) for _ in range(REPEATS)]

    return asyncio.run(main())


def at_once(address: str, method: str, operands: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    """They share a stream from the second round on."""

    async def main() -> list[Any]:
        async with lossd.aio.Client(address) as client:
            for _ in range(2):
                found = await asyncio.gather(*(getattr(client, method)(*operands, **options) for _ in range(REPEATS)))
            return list(found)

    return asyncio.run(main())


def async_mapped(address: str, method: str, operands: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    async def main() -> list[Any]:
        async with lossd.aio.Client(address) as client:
            return [one async for one in client.map(method, [operands] * REPEATS, **options)]

    return asyncio.run(main())


@pytest.mark.parametrize("repeat", [blocking, mapped, awaited, at_once, async_mapped])
@pytest.mark.parametrize("name", CALLS)
def test_every_repetition_has_the_result_of_the_first(addresses: dict[str, str], name: str, repeat: Repeat) -> None:
    """Which goes the general way, as arrays of other libraries always do."""
    method, operands, options = CALLS[name]

    results = [but_times(one) for one in repeat(addresses["usual"], method, operands, options)]

    assert results == [results[0]] * REPEATS
    general = blocking(addresses["usual"], method, tuple(map(Foreign, operands)), options)[0]
    assert results[0] == but_times(general)


@pytest.mark.parametrize("repeat", [blocking, mapped, awaited, at_once, async_mapped])
def test_an_answer_that_does_not_fit_comes_in_blocks(addresses: dict[str, str], repeat: Repeat) -> None:
    """Where a client does not know the server's limits yet, and the call has a template from elsewhere."""
    x = RNG.random((100, 256)).astype(ml_dtypes.float8_e4m3fn)
    (whole, *_) = [one.loss.tolist() for one in repeat(addresses["usual"], "self_information", (x,), {})]

    assert x.nbytes < MOST_BYTES < 1 << 16 < 4 * x.size
    for _ in range(2):
        found = repeat(addresses["small"], "self_information", (x,), {})

        assert [one.loss.tolist() for one in found] == [whole] * REPEATS


class Foreign:
    """An array as another library has it: it has no template."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values


def but_times(result: lossd.Result) -> Any:
    seen = told(result)
    return seen[:3] + seen[4:]

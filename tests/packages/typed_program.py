"""A user's program, as type checkers see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import numpy.typing as npt

import lossd

Logits = npt.NDArray[np.float32]


def mean_loss(client: lossd.Client, logits: Logits, target: npt.NDArray[np.int64]) -> float:
    result = client.cross_entropy(logits, target, label_smoothing=0.1, reduction="mean")
    return float(result)


def gradient(client: lossd.Client, logits: Logits, target: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
    result = client.cross_entropy(logits, target, grad=True)
    return np.asarray(result.grad)


def rows(client: lossd.Client, logits: Logits, target: npt.NDArray[np.int64]) -> list[float]:
    result = client.cross_entropy(logits, target, reduction="none")
    return [float(each) for each in np.asarray(result.loss)]


def explain(error: lossd.Error) -> str:
    if isinstance(error, lossd.InvalidArgument):
        return f"{error.field}: {error}"
    return str(error)


async def many(address: str, batches: list[tuple[Logits, npt.NDArray[np.int64]]]) -> list[float]:
    async with lossd.aio.Client(address) as client:
        results = await asyncio.gather(*(client.cross_entropy(x, y) for x, y in batches))
        return [float(result) for result in results]


def main() -> None:
    with lossd.Client("127.0.0.1:50051", ca=Path("ca.pem"), token="secret") as client:
        logits = np.zeros((2, 3), np.float32)
        target = np.array([0, 1])
        print(mean_loss(client, logits, target), gradient(client, logits, target), rows(client, logits, target))
        print(client.info().version)
        try:
            client.nll(logits, target)
        except lossd.Error as error:
            print(explain(error))


if __name__ == "__main__":
    main()

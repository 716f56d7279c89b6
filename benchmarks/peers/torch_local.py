"""No service at all: `F.cross_entropy` in the caller's own process, eager and compiled.

PYTHONPATH=benchmarks python -m peers.torch_local
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from peers.case import Array
from peers.worker import Cases, answer, timed


class TorchLocal:
    def __init__(self) -> None:
        self._cases = Cases()
        self._losses: dict[str, Callable[..., Any]] = {"eager": F.cross_entropy}

    def evaluate(self, case: str, gradient: bool, way: str, times: int) -> list[float]:
        """way: "eager" or "compile"."""
        found = self._cases[case]
        if way not in self._losses:
            self._losses[way] = torch.compile(F.cross_entropy)
        loss = self._losses[way]
        input, target = torch.from_numpy(found.input), torch.from_numpy(found.target)

        def once() -> tuple[float, Array | None]:
            if not gradient:
                with torch.no_grad():
                    return float(loss(input, target)), None
            leaf = input.detach().requires_grad_()
            value = loss(leaf, target)
            value.backward()
            assert leaf.grad is not None
            return float(value.detach()), leaf.grad.numpy()

        return timed(once, found, times)

    def drop(self) -> None:
        """Forgets every case."""
        self._cases.drop()


if __name__ == "__main__":
    it = TorchLocal()
    answer({"evaluate": it.evaluate, "drop": it.drop})

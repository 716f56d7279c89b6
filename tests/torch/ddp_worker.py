"""One of two processes that train by DistributedDataParallel: its gradients by each way to compute the loss.

    python ddp_worker.py RENDEZVOUS RANK ADDRESS OUTPUT

RENDEZVOUS: a file that both name. ADDRESS: of the server; each process has a client of its own. OUTPUT: what torch.save
writes: {way: the parameters after two steps, and the gradients of the second}.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import lossd
import lossd.torch

WORLD = 2
ROWS = 6
Loss = Callable[[Tensor, Tensor], Tensor]


def data(step: int) -> tuple[Tensor, Tensor]:
    """All rows of a step; each process takes its own half."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(WORLD * ROWS, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (WORLD * ROWS,), generator=generator)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def train(network: nn.Module, loss: Loss, rows: slice, steps: int = 2) -> list[Tensor]:
    """Parameters and last gradients after `steps`."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(steps):
        x, y = data(step)
        optimizer.zero_grad()
        loss(network(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = [parameter.detach().clone() for parameter in network.parameters()]
    return found + [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def ways(client: lossd.Client) -> dict[str, Loss]:
    def by_mode(x: Tensor, y: Tensor) -> Tensor:
        with lossd.torch.remote(client):
            return F.cross_entropy(x, y)

    def by_tensor(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(lossd.torch.RemoteTensor(x, client), y)  # type: ignore[arg-type]

    return {
        "local": F.cross_entropy,
        "functional": lambda x, y: lossd.torch.functional.cross_entropy(x, y, client=client),
        "module": lossd.torch.nn.CrossEntropyLoss(client=client),
        "remote": by_mode,
        "RemoteTensor": by_tensor,
    }


def main(rendezvous: str, rank: int, address: str, output: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=60)
    )
    mine = slice(rank * ROWS, (rank + 1) * ROWS)
    with lossd.Client(address) as client:
        found = {name: train(DistributedDataParallel(model()), loss, mine) for name, loss in ways(client).items()}
    torch.save(found, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])

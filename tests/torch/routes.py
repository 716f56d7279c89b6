"""Ways to have a loss of PyTorch's computed by lossd: each takes the same call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

import lossd
import lossd.torch
import lossd.torch.functional
import lossd.torch.nn
from lossd.torch import RemoteTensor

# PyTorch's names of a loss, by the client's: the function's, the module's.
NAMES = {
    "cross_entropy": ("cross_entropy", "CrossEntropyLoss"),
    "nll": ("nll_loss", "NLLLoss"),
    "bce": ("binary_cross_entropy", "BCELoss"),
    "bce_with_logits": ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss"),
    "kl_divergence": ("kl_div", "KLDivLoss"),
}
# (client, a key of NAMES, input, target, PyTorch's options) → the loss. PyTorch's own asks no client.
Route = Callable[..., Tensor]


def local(client: lossd.Client | None, method: str, input: Any, target: Any, **options: Any) -> Tensor:
    """PyTorch's own."""
    found: Tensor = getattr(F, NAMES[method][0])(input, target, **options)
    return found


def functional(client: lossd.Client, method: str, input: Tensor, target: Tensor, **options: Any) -> Tensor:
    found: Tensor = getattr(lossd.torch.functional, NAMES[method][0])(input, target, **options, client=client)
    return found


def module(client: lossd.Client, method: str, input: Tensor, target: Tensor, **options: Any) -> Tensor:
    made = getattr(lossd.torch.nn, NAMES[method][1])(**options, client=client)
    found: Tensor = made(input, target)
    return found


def remote(client: lossd.Client, method: str, input: Tensor, target: Tensor, **options: Any) -> Tensor:
    with lossd.torch.remote(client):
        return local(client, method, input, target, **options)


def remote_module(client: lossd.Client, method: str, input: Tensor, target: Tensor, **options: Any) -> Tensor:
    """PyTorch's module, under the mode."""
    made = getattr(nn, NAMES[method][1])(**options)
    with lossd.torch.remote(client):
        found: Tensor = made(input, target)
        return found


def remote_tensor(client: lossd.Client, method: str, input: Tensor, target: Tensor, **options: Any) -> Tensor:
    return local(client, method, RemoteTensor(input, client), target, **options)


ROUTES: dict[str, Route] = {
    "functional": functional,
    "module": module,
    "remote": remote,
    "remote module": remote_module,
    "RemoteTensor": remote_tensor,
}


def calls(client: lossd.Client) -> int:
    """Evaluations that the server has answered."""
    return client.info().statistics.completed

"""One small call of each loss, and of each way to give its target, for tests of what is around the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.torch.routes import Route, local


@dataclass(frozen=True)
class Call:
    """method: a key of NAMES. differentiable: the tensors that have a gradient, input first."""

    method: str
    input: Tensor
    target: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Fresh tensors that want a gradient."""
        found = {"input": self.input.detach().clone().requires_grad_()}
        if self.target.is_floating_point():
            found["target"] = self.target.detach().clone().requires_grad_()
        return found

    def compute(self, route: Route, client: Any, leaves: dict[str, Tensor], **options: Any) -> Tensor:
        target = leaves.get("target", self.target)
        return route(client, self.method, leaves["input"], target, **(self.options | options))

    def gradients(self, route: Route, client: Any = None, **options: Any) -> tuple[Tensor, ...]:
        """The loss, then its gradients."""
        leaves = self.leaves
        loss = self.compute(route, client, leaves, **options)
        return loss.detach(), *torch.autograd.grad(loss.sum(), tuple(leaves.values()))


def calls_of_losses(dtype: torch.dtype = torch.float64, rows: int = 4, classes: int = 3) -> dict[str, Call]:
    """Each loss by a name that tests show: probabilities keep away from 0 and 1, so that differences can be taken."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    z = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    y = torch.arange(rows) % classes
    p = torch.softmax(z, 1).to(dtype)
    t = (0.1 + 0.8 * torch.rand(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)
    w = torch.linspace(0.5, 2.0, classes, dtype=torch.float64).to(dtype)
    log_q, inside = torch.log_softmax(x, 1).to(dtype), torch.sigmoid(x).to(dtype)
    x = x.to(dtype)
    return {
        "cross_entropy of classes": Call("cross_entropy", x, y, {"weight": w, "label_smoothing": 0.1}),
        "cross_entropy of probabilities": Call("cross_entropy", x, p, {"weight": w}),
        "nll": Call("nll", log_q, y, {"weight": w}),
        "bce": Call("bce", inside, t, {"weight": w}),
        "bce_with_logits": Call("bce_with_logits", x, t, {"weight": w, "pos_weight": w.flip(0)}),
        "kl_divergence": Call("kl_divergence", log_q, p, {"reduction": "batchmean"}),
        "kl_divergence of logs": Call("kl_divergence", log_q, p.log(), {"reduction": "sum", "log_target": True}),
    }


def backward(loss: Tensor, upstream: Tensor | None = None, **options: bool) -> None:
    """loss.backward(), which PyTorch has no types for."""
    loss.backward(upstream, **options)  # type: ignore[no-untyped-call]


NAMES_OF_CALLS = tuple(calls_of_losses())


def assert_same(call: Call, route: Route, client: Any, **options: Any) -> None:
    """The loss and gradients of a route are PyTorch's, to 1e-12 of the largest in float64."""
    for ours, theirs in zip(call.gradients(route, client, **options), call.gradients(local, **options), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

"""Cross-entropy of the same tensors by torch eager, torch.compile, Liger-Kernel, QuACK: those that are there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F

Work = Callable[[], Any]
Peer = Callable[[torch.Tensor, torch.Tensor, bool], Work]


def eager(x: torch.Tensor, y: torch.Tensor, gradient: bool) -> Work:
    """`F.cross_entropy`, and autograd."""
    return _of(lambda a, b: F.cross_entropy(a, b, reduction="none" if not gradient else "mean"), x, y, gradient)


def compiled(x: torch.Tensor, y: torch.Tensor, gradient: bool) -> Work:
    """The same, fused by torch.compile for this shape."""
    torch._dynamo.reset()
    reduction = "mean" if gradient else "none"
    return _of(
        torch.compile(lambda a, b: F.cross_entropy(a.float(), b, reduction=reduction), dynamic=False), x, y, gradient
    )


def liger(x: torch.Tensor, y: torch.Tensor, gradient: bool) -> Work:
    """Liger-Kernel's, which writes the gradient over its input in the forward pass: onto a copy that it may keep."""
    loss = import_module("liger_kernel.transformers").LigerCrossEntropyLoss()
    own = x.clone().requires_grad_(gradient)
    return lambda: loss(own, y)


def quack(x: torch.Tensor, y: torch.Tensor, gradient: bool) -> Work:
    """QuACK's, in CUTLASS's Python language."""
    cross_entropy = import_module("quack.cross_entropy").cross_entropy
    return _of(lambda a, b: cross_entropy(a, b, reduction="mean" if gradient else "none"), x, y, gradient)


PEERS: dict[str, Peer] = {"eager": eager, "compile": compiled, "liger": liger, "quack": quack}


def _of(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor, gradient: bool
) -> Work:
    if not gradient:

        def forward() -> Any:
            with torch.no_grad():
                return loss(x, y)

        return forward
    leaf = x.detach().requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf, y), leaf)

"""The same calls to torch.nn.functional, in the tensors' own dtype; what it lacks, as a PyTorch user writes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conformance.cases import Asked


def log_of(x: Tensor, kind: str) -> Tensor:
    """ln q of what the numbers of `kind` stand for, rows along dimension 1 (0 of a 1-D tensor)."""
    dim = class_dimension(x)
    if kind == "logits":
        return F.log_softmax(x, dim)
    if kind == "log_probabilities":
        return x
    return (x / x.sum(dim, keepdim=True) if kind == "counts" else x).log()


def class_dimension(x: Tensor) -> int:
    return 1 if x.ndim > 1 else 0


def reduced(losses: Tensor, reduction: str, denominator: Any = None) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / (losses.numel() if denominator is None else denominator)


def entropy(
    input: Tensor, *, kind: str = "probabilities", row_weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """PyTorch has torch.special.entr alone."""
    dim = class_dimension(input)
    if kind == "logits":
        log_p = F.log_softmax(input, dim)
        rows = -(log_p.exp() * log_p).sum(dim)
    else:
        rows = torch.special.entr(input / input.sum(dim, keepdim=True) if kind == "counts" else input).sum(dim)
    if row_weight is None:
        return reduced(rows, reduction)
    return reduced(rows * row_weight, reduction, row_weight.sum())


def cross_entropy(input: Tensor, target: Tensor, *, reduction: str = "mean", **options: Any) -> Tensor:
    """PyTorch's own where it has the options."""
    if options.keys() <= {"weight", "ignore_index", "label_smoothing"}:
        return F.cross_entropy(input, target, reduction=reduction, **options)
    return generalised_cross_entropy(input, target, reduction=reduction, **options)


def generalised_cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    kind: str = "logits",
    target_kind: str | None = None,
    weight: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    dim = class_dimension(input)
    if softcap is not None:
        input = softcap * torch.tanh(input / softcap)
    index = not target.is_floating_point()
    kept = target != ignore_index if index else torch.ones_like(input.sum(dim), dtype=torch.bool)
    classes = input.shape[dim]
    w = torch.ones(classes, dtype=input.dtype) if weight is None else weight
    by_class = w.reshape([classes if axis == dim else 1 for axis in range(input.ndim)])
    if index:
        label = target.where(kept, 0)
        t = F.one_hot(label, classes).movedim(-1, dim).to(input.dtype)
    else:
        t = target / target.sum(dim, keepdim=True) if target_kind == "counts" else target
    t = (1 - label_smoothing) * t + label_smoothing / classes
    rows = -(by_class * t * log_of(input, kind)).sum(dim)
    if z_loss:
        rows = rows + z_loss * torch.logsumexp(input, dim) ** 2
    r = torch.ones_like(rows) if row_weight is None else row_weight
    denominators = r * w[label] if index else r
    return reduced((rows * r).where(kept, 0), reduction, (denominators * kept).sum())


def kl_div(
    input: Tensor,
    target: Tensor,
    *,
    kind: str = "log_probabilities",
    target_kind: str = "probabilities",
    reduction: str = "mean",
) -> Tensor:
    """PyTorch's own of ln q and p, or of ln q and ln p."""
    if target_kind == "probabilities":
        losses = F.kl_div(log_of(input, kind), target, reduction="none")
    else:
        losses = F.kl_div(log_of(input, kind), log_of(target, target_kind), reduction="none", log_target=True)
    return reduced(losses, reduction, max(len(input) if input.ndim else 1, 1) if reduction == "batchmean" else None)


def self_information(input: Tensor, *, reduction: str = "none") -> Tensor:
    return reduced(-input.log(), reduction)


def by_rows(function: Callable[..., Tensor], input: Tensor, *, dim: int | None = None) -> Tensor:
    return function(input, class_dimension(input) if dim is None else dim)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "entropy": entropy,
    "kl_divergence": kl_div,
    "nll": F.nll_loss,
    "self_information": self_information,
    "softmax": partial(by_rows, F.softmax),
    "log_softmax": partial(by_rows, F.log_softmax),
    "sigmoid": F.sigmoid,
    "log_sigmoid": F.logsigmoid,
}
NOT_ITS_OWN = {"grad", "grad_output", "outputs", "empty_mean"}
NAMES = ("input", "target", "weight")


def tensor(array: npt.NDArray[Any]) -> Tensor:
    """A copy with the same bits, bfloat16 and 8-bit floats included."""
    array = np.array(array, order="C")
    name = str(array.dtype)
    if name == "bfloat16" or name.startswith("float8"):
        bits = torch.from_numpy(array.view(np.int16 if name == "bfloat16" else np.uint8))
        return bits.view(getattr(torch, name))
    return torch.from_numpy(array)


def array(result: Tensor) -> npt.NDArray[Any]:
    """Its numbers; 16-bit ones as float32, which holds them exactly."""
    result = result.detach()
    return np.asarray((result.float() if result.dtype in (torch.bfloat16, torch.float16) else result).numpy())


def results(asked: Asked) -> dict[str, npt.NDArray[Any]] | None:
    """PyTorch's "loss" and gradients by tensor name; divides by base and normalizer itself. None where it cannot."""
    options = {key: value for key, value in asked.options.items() if key not in NOT_ITS_OWN}
    divisor = math.log(options.pop("base", math.e))
    if "normalizer" in options:
        divisor *= options.pop("normalizer")
        options["reduction"] = "sum"
    options = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    leaves = dict(zip(NAMES, [tensor(t) for t in asked.tensors], strict=False))
    operands = list(leaves.values())
    wanted = set(asked.options.get("grad") or ()) if asked.options.get("grad") is not True else {"input"}
    if "weight" in wanted:
        leaves["weight"] = options.setdefault("weight", torch.ones(classes(asked), dtype=operands[0].dtype))
    for name, leaf in leaves.items():
        leaf.requires_grad_(name in wanted and leaf.is_floating_point())
    try:
        if "weight" in wanted:
            options.pop("ignore_index", None)
            loss = generalised_cross_entropy(*operands, **options) / divisor
        else:
            loss = FUNCTIONS[asked.method](*operands, **options) / divisor
    except (NotImplementedError, RuntimeError):  # some dtype on the CPU
        return None
    found = {"loss": array(loss)}
    if not wanted:
        return found
    upstream = asked.options.get("grad_output")
    loss.backward(torch.ones_like(loss) if upstream is None else tensor(upstream).to(loss.dtype))  # type: ignore[no-untyped-call]
    return found | {name: array(leaf.grad) for name, leaf in leaves.items() if leaf.grad is not None}


def classes(asked: Asked) -> int:
    shape = asked.tensors[0].shape
    return int(shape[0] if len(shape) == 1 else shape[1])

"""The same calls to torch.nn.functional, in the tensors' own dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from tests.conformance.cases import Asked


def entropy(input: torch.Tensor, *, kind: str = "probabilities", reduction: str = "mean") -> torch.Tensor:
    """What a PyTorch user writes for it: PyTorch has no such loss."""
    dim = 0 if input.ndim == 1 else 1
    if kind == "logits":
        log_p = F.log_softmax(input, dim)
        rows = -(log_p.exp() * log_p).sum(dim)
    else:
        rows = torch.special.entr(input / input.sum(dim, keepdim=True) if kind == "counts" else input).sum(dim)
    if reduction == "none":
        return rows
    return rows.mean() if reduction == "mean" else rows.sum()


FUNCTIONS: dict[str, Any] = {
    "cross_entropy": F.cross_entropy,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "entropy": entropy,
}
OPTIONS = {"kind", "weight", "pos_weight", "ignore_index", "label_smoothing", "reduction"}


def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """A copy with the same bits, bfloat16 included."""
    array = np.array(array, order="C")
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(result: torch.Tensor) -> npt.NDArray[Any]:
    """Its numbers; 16-bit ones as float32, which holds them exactly."""
    result = result.detach()
    return np.asarray((result.float() if result.dtype in (torch.bfloat16, torch.float16) else result).numpy())


def results(asked: Asked) -> dict[str, npt.NDArray[Any]] | None:
    """PyTorch's "loss" and gradients by tensor name; divides by base and normalizer itself. None where it cannot."""
    options = {key: value for key, value in asked.options.items() if key not in ("grad", "grad_output")}
    divisor = math.log(options.pop("base", math.e))
    if "normalizer" in options:
        divisor *= options.pop("normalizer")
        options["reduction"] = "sum"
    if not options.keys() <= OPTIONS:
        return None
    tensors = [tensor(t) for t in asked.tensors]
    for t in tensors:
        t.requires_grad_(t.is_floating_point())
    options = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    try:
        loss = FUNCTIONS[asked.method](*tensors, **options) / divisor
    except NotImplementedError:  # some dtype on the CPU
        return None
    upstream = asked.options.get("grad_output")
    loss.backward(torch.ones_like(loss) if upstream is None else tensor(upstream).to(loss.dtype))
    found = {"loss": array(loss)}
    for name, t in zip(("input", "target"), tensors, strict=False):
        if t.grad is not None:
            found[name] = array(t.grad)
    return found

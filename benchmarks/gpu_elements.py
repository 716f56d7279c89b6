"""Elementwise losses of many elements, for gpu.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gpu_cases import DTYPES, TORCH, batch_on_device
from lossd_server.jobs.job import Formula, Job, Layout
from lossd_server.tensors.array import STORAGE, Array

Case = tuple[str, int, Callable[[], Any], Callable[[], Any]]


def elementwise_cases(elements: int, device: str) -> Iterator[Case]:
    """Title, bytes that cannot be avoided, lossd's work, torch's."""
    for dtype in ("float32", "bfloat16"):
        code = DTYPES[dtype]
        shape = (elements // 16, 16)

        def operand(code: int = code, shape: tuple[int, int] = shape) -> Array:
            return Array(np.empty(elements // 16 * 16, STORAGE[code]), code, shape)

        for formula, gradient in (
            (Formula.BCE_WITH_LOGITS, False),
            (Formula.BCE_WITH_LOGITS, True),
            (Formula.SIGMOID, False),
        ):
            two = formula is Formula.BCE_WITH_LOGITS
            job = Job(
                rpc="",
                formula=formula,
                layout=Layout(*shape, 1),
                compute=np.dtype(np.float32),
                input=operand(),
                target=operand() if two else None,
                input_gradient=gradient,
            )
            one = batch_on_device([job], device, deviation=2.0)
            x = one.rows(0)
            if two:
                one.rows(0, target=True).uniform_(0, 1)
            one.launch()
            tensors = 1 + two + (gradient or not two)
            moved = tensors * elements * TORCH[code].itemsize
            theirs: Callable[[], Any]
            if two:
                t = one.rows(0, target=True)
                leaf = x.detach().requires_grad_(gradient)
                theirs = partial(_torch_bce, leaf, t, gradient)
            else:
                theirs = partial(torch.sigmoid, x)
            yield f"{formula.name.lower()} of {elements} {dtype}{' + gradient' * gradient}", moved, one.launch, theirs


def _torch_bce(x: torch.Tensor, t: torch.Tensor, gradient: bool) -> Any:
    loss = F.binary_cross_entropy_with_logits(x, t)
    return torch.autograd.grad(loss, x) if gradient else loss

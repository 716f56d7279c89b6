"""vmap: a batch of losses is one call with more rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lossd.torch.request import LossRequest

Apply = Callable[..., tuple[Tensor, ...]]


def evaluate_batched(
    apply: Apply, batch: int, dims: Sequence[int | None], request: LossRequest, tensors: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Losses without reduction, and gradients, each with the batch in front.

    dims: where each tensor's batch lies, if it has one. One call, but for class weights that are batched: one each.
    """
    if request.has_classes and dims[2] is not None:
        return _one_by_one(apply, batch, dims, request, tensors)
    input, target, *weights = (_in_front(*one) for one in zip(tensors, dims, strict=True))
    assert input is not None
    assert target is not None
    if dims[0] is None:
        input = input.expand(batch, *input.shape)
    if dims[1] is None:
        target = target.expand(batch, *target.shape)
    if not request.has_classes:
        aligned = (_aligned(weight, dim, input.ndim) for weight, dim in zip(weights, dims[2:], strict=True))
        return tuple(apply(request, input, target, *aligned))
    if input.ndim == 2:  # a row each
        index = not target.is_floating_point()
        return tuple(apply(request, input, target.reshape(batch) if index else target, *weights))
    rows = input.shape[1]
    outputs = apply(request, input.flatten(0, 1), target.flatten(0, 1), *weights)
    return tuple(output.reshape(batch, rows, *output.shape[1:]) for output in outputs)


def _in_front(tensor: Tensor | None, dim: int | None) -> Tensor | None:
    return tensor if tensor is None or dim is None else tensor.movedim(dim, 0)


def _aligned(weight: Tensor | None, dim: int | None, ndim: int) -> Tensor | None:
    """A weight that broadcasts from behind, as it does without its batch. ndim: of the input with its batch."""
    if weight is None or dim is None:
        return weight
    return weight.reshape(len(weight), *(1,) * (ndim - weight.ndim), *weight.shape[1:])


def _one_by_one(
    apply: Apply, batch: int, dims: Sequence[int | None], request: LossRequest, tensors: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    each = [
        apply(
            request,
            *(
                tensor if tensor is None or dim is None else tensor.select(dim, index)
                for tensor, dim in zip(tensors, dims, strict=True)
            ),
        )
        for index in range(batch)
    ]
    return tuple(torch.stack(outputs) for outputs in zip(*each, strict=True))

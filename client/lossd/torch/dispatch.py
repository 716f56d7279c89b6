"""Which way a loss goes: into a graph as an operator, or at once as a Function; inside function transforms by rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lossd.torch import operators
from lossd.torch.function import TransformedLoss, differentiable
from lossd.torch.refusal import compute_locally
from lossd.torch.request import CROSS_ENTROPY, LossRequest


def remote_loss(
    request: LossRequest,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
) -> Tensor:
    """The loss, in PyTorch's dtype, on the input's device; gradients are asked for where they will be needed."""
    tensors = (input, target, weight, pos_weight)
    if not _are_tensors(tensors, request.ignore_index, request.label_smoothing):
        compute_locally(request, tensors)  # raises PyTorch's TypeError
        raise TypeError("input, target and weights must be tensors, ignore_index an int, label_smoothing a float")
    if torch._C._are_functorch_transforms_active():
        loss: Tensor = _inside_transforms(request, input, target, weight, pos_weight)
        return loss
    if torch.is_grad_enabled():
        wanted = {"input": input.requires_grad, "target": target.requires_grad}
        request = request._replace(gradients=" ".join(name for name in wanted if wanted[name]))
    if not torch.compiler.is_compiling() and (request.gradients or _has_forward_mode()):
        return differentiable(request, input, target, weight, pos_weight)
    return operators.call_operator(request, input, target, weight, pos_weight)[0]


def _are_tensors(tensors: tuple[object, ...], ignore_index: object, label_smoothing: object) -> bool:
    """Whether the arguments are of the types that they are annotated with. tensors: input, target and weights."""
    return (
        all(isinstance(tensor, Tensor) for tensor in tensors[:2])
        and all(weight is None or isinstance(weight, Tensor) for weight in tensors[2:])
        and isinstance(ignore_index, int)
        and isinstance(label_smoothing, int | float)
    )


def _has_forward_mode() -> bool:
    """Inside of forward_ad.dual_level() a tensor may have a tangent, which an operator would lose without a word."""
    return forward_ad._current_level >= 0


@torch.compiler.disable(  # type: ignore[untyped-decorator, no-untyped-call]  # it has no annotations
    reason="inside torch.func's transforms a lossd loss is no part of a graph: compile the model"
)
def _inside_transforms(
    request: LossRequest, input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
) -> Tensor:
    """Losses without reduction by the server, so that vmap may batch them; they are reduced here.

    Dynamo must leave this to Python: it sees through a Function to its operator, and inside of transforms PyTorch gives
    operators no autograd (its issue 170834).
    """
    if torch.is_grad_enabled():
        wanted = {"input": _is_differentiated(input), "target": _is_differentiated(target)}
        request = request._replace(gradients=" ".join(name for name in wanted if wanted[name]))
    by_row = request._replace(reduction="none", normalizer=None)
    losses: Tensor = TransformedLoss.apply(by_row, input, target, weight, pos_weight)[0]  # type: ignore[no-untyped-call]
    wide = losses.to(torch.promote_types(losses.dtype, torch.float32))
    return _reduced(request, wide, input, target, weight).to(losses.dtype)


def _is_differentiated(tensor: Tensor) -> bool:
    """At any level: inside vmap, what is differentiated outside of it does not say so."""
    while not tensor.requires_grad and torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.requires_grad


def _reduced(request: LossRequest, losses: Tensor, input: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    if request.reduction == "none":
        return losses
    if request.reduction == "sum":
        return losses.sum()
    if request.normalizer is not None:
        return losses.sum() / request.normalizer
    if request.reduction == "batchmean":
        return losses.sum() / (input.shape[0] if input.ndim else 1)
    if not request.has_classes or (request.loss == CROSS_ENTROPY and target.is_floating_point()):
        return losses.mean()
    kept = target != request.ignore_index
    if weight is None:
        return losses.sum() / kept.sum()
    return losses.sum() / (weight[torch.where(kept, target, 0)] * kept).sum()

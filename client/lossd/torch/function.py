"""The loss outside of graphs: autograd.Functions, which PyTorch's function transforms need, and which are quicker.

Their gradients are outputs, too. Whoever asks for their own gradient, by whatever way, arrives in `backward` with it.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks

from lossd.torch import operators
from lossd.torch.backward import NO_FORWARD_MODE, NO_SECOND_DERIVATIVE, save_gradients, times_upstream
from lossd.torch.batched import evaluate_batched
from lossd.torch.request import LossRequest


class _Derivatives(Function):
    """What both Functions make of an upstream gradient."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, *second: Tensor | None) -> tuple[Tensor | None, ...]:
        if any(one is not None for one in second):
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        if grad_output is None:
            return None, None, None, None, None
        in_place = _is_last(grad_output)
        return None, *times_upstream(ctx, grad_output, ctx.needs_input_grad[1:3], in_place=in_place), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        raise RuntimeError(NO_FORWARD_MODE)


class RemoteLoss(_Derivatives):
    """apply(request, input, target, weight, pos_weight) is the loss, and the gradients that `request` asks for."""

    @staticmethod
    def forward(ctx: Any, request: LossRequest, *tensors: Any) -> tuple[Tensor, ...]:
        loss, gradients = operators.call_operator(request, *tensors)
        save_gradients(ctx, request, tensors[0], tensors[1], gradients)
        return (loss, *gradients)


class TransformedLoss(_Derivatives):
    """The same inside of torch.func's transforms. PyTorch looks at its signature at each call, for 40 µs."""

    @staticmethod
    def forward(request: LossRequest, *tensors: Any) -> tuple[Tensor, ...]:
        loss, gradients = operators.call_operator(request, *tensors)
        return (loss, *gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        request, input, target, *_ = inputs
        save_gradients(ctx, request, input, target, output[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], request: LossRequest, *tensors: Any) -> tuple[Any, Any]:
        outputs = evaluate_batched(TransformedLoss.apply, info.batch_size, in_dims[1:], request, tensors)
        return outputs, (0,) * len(outputs)


def _is_last(grad_output: Tensor) -> bool:
    """Whether this is the only backward pass through here, and an ordinary one: not vmap's, with many at once."""
    return not (
        torch.is_grad_enabled()
        or torch._C._autograd._get_current_graph_task_keep_graph()
        or torch._C._functorch.is_functorch_wrapped_tensor(grad_output)
        or torch._C._functorch.is_legacy_batchedtensor(grad_output)
    )


def differentiable(request: LossRequest, *tensors: Tensor | None) -> Tensor:
    """The loss by RemoteLoss.

    What it saves is hidden from saved_tensors_hooks: torch.utils.checkpoint would find the gradient by its number among
    the saved tensors of a second forward pass, where a loss under `remote` may be PyTorch's own and save others.
    """
    if torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]  # it is there
        with saved_tensors_hooks(_detached, _same):
            loss, *_ = RemoteLoss.apply(request, *tensors)  # type: ignore[no-untyped-call]
    else:
        loss, *_ = RemoteLoss.apply(request, *tensors)  # type: ignore[no-untyped-call]
    return loss  # type: ignore[no-any-return]


def _detached(tensor: Tensor) -> Tensor:
    # An output that was kept as it is would hold the node that keeps it.
    return tensor.detach()


def _same(tensor: Tensor) -> Tensor:
    return tensor

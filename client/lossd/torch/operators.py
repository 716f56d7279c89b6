"""PyTorch's operators `lossd::…`: a loss and its gradients from one call, as graphs may hold them.

An operator takes no Python object: the client is its number. gradients: of which tensors, as words ("input",
"input target"); their tensors come back in this order. normalizer and as_float32 as in LossRequest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch.library import custom_op

from lossd.torch.backward import NO_SECOND_DERIVATIVE, save_gradients, times_upstream
from lossd.torch.refusal import Tensors, compute_locally
from lossd.torch.remote_call import ask, is_undivided, scalable_dtype
from lossd.torch.request import BCE, BCE_WITH_LOGITS, CROSS_ENTROPY, KL_DIV, NLL, LossRequest

Evaluated = tuple[Tensor, list[Tensor]]


@custom_op("lossd::cross_entropy", mutates_args=())
def _cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    normalizer: float | None,
    as_float32: bool,
    gradients: str,
    client: int,
) -> tuple[Tensor, list[Tensor]]:
    """torch.nn.functional.cross_entropy of logits and class indices or distributions."""
    request = LossRequest(
        CROSS_ENTROPY,
        reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        normalizer=normalizer,
        as_float32=as_float32,
        gradients=gradients,
        client=client,
    )
    return ask(request, input, target, weight, None)


@custom_op("lossd::nll_loss", mutates_args=())
def _nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    as_float32: bool,
    gradients: str,
    client: int,
) -> tuple[Tensor, list[Tensor]]:
    """torch.nn.functional.nll_loss of log-probabilities and class indices."""
    request = LossRequest(
        NLL, reduction, ignore_index=ignore_index, as_float32=as_float32, gradients=gradients, client=client
    )
    return ask(request, input, target, weight, None)


@custom_op("lossd::binary_cross_entropy", mutates_args=())
def _binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    as_float32: bool,
    gradients: str,
    client: int,
) -> tuple[Tensor, list[Tensor]]:
    """torch.nn.functional.binary_cross_entropy of probabilities."""
    request = LossRequest(BCE, reduction, as_float32=as_float32, gradients=gradients, client=client)
    return ask(request, input, target, weight, None)


@custom_op("lossd::binary_cross_entropy_with_logits", mutates_args=())
def _binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    reduction: str,
    as_float32: bool,
    gradients: str,
    client: int,
) -> tuple[Tensor, list[Tensor]]:
    """torch.nn.functional.binary_cross_entropy_with_logits; weights broadcast to the input's shape."""
    request = LossRequest(BCE_WITH_LOGITS, reduction, as_float32=as_float32, gradients=gradients, client=client)
    return ask(request, input, target, weight, pos_weight)


@custom_op("lossd::kl_div", mutates_args=())
def _kl_div(
    input: Tensor,
    target: Tensor,
    reduction: str,
    log_target: bool,
    normalizer: float | None,
    as_float32: bool,
    gradients: str,
    client: int,
) -> tuple[Tensor, list[Tensor]]:
    """torch.nn.functional.kl_div of tensors of one shape."""
    request = LossRequest(
        KL_DIV,
        reduction,
        log_target=log_target,
        normalizer=normalizer,
        as_float32=as_float32,
        gradients=gradients,
        client=client,
    )
    return ask(request, input, target, None, None)


_OPERATORS = {
    CROSS_ENTROPY: _cross_entropy,
    NLL: _nll_loss,
    BCE: _binary_cross_entropy,
    BCE_WITH_LOGITS: _binary_cross_entropy_with_logits,
    KL_DIV: _kl_div,
}


def call_operator(
    request: LossRequest, input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
) -> Evaluated:
    """The operator of `request`, called with it."""
    r = request
    last = (r.as_float32, r.gradients, r.client)
    if r.loss == CROSS_ENTROPY:
        return torch.ops.lossd.cross_entropy(  # type: ignore[no-any-return]
            input, target, weight, r.reduction, r.ignore_index, r.label_smoothing, r.normalizer, *last
        )
    if r.loss == NLL:
        return torch.ops.lossd.nll_loss(input, target, weight, r.reduction, r.ignore_index, *last)  # type: ignore[no-any-return]
    if r.loss == BCE:
        return torch.ops.lossd.binary_cross_entropy(input, target, weight, r.reduction, *last)  # type: ignore[no-any-return]
    if r.loss == BCE_WITH_LOGITS:
        return torch.ops.lossd.binary_cross_entropy_with_logits(  # type: ignore[no-any-return]
            input, target, weight, pos_weight, r.reduction, *last
        )
    return torch.ops.lossd.kl_div(input, target, r.reduction, r.log_target, r.normalizer, *last)  # type: ignore[no-any-return]


def _register(loss: str, operator: CustomOpDef) -> None:
    names = [argument.name for argument in operator._opoverload._schema.arguments]

    def parts(values: Sequence[Any]) -> tuple[LossRequest, Tensors]:
        given = dict(zip(names, values, strict=True))
        tensors = tuple(given.pop(name, None) for name in ("input", "target", "weight", "pos_weight"))
        return LossRequest(loss, **given), tensors

    def fake(*values: Any) -> Evaluated:
        request, tensors = parts(values)
        loss = compute_locally(request, tensors)
        sources = {"input": tensors[0], "target": tensors[1]}
        undivided = is_undivided(request, tensors)
        gradients = []
        for name in request.gradients.split():
            source = sources[name]
            gradients.append(source.new_empty(source.shape, dtype=scalable_dtype(source.dtype, undivided)))
        return loss.new_empty(loss.shape), gradients

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Evaluated) -> None:
        request, (input, target, *_) = parts(inputs)
        ctx.mark_non_differentiable(*output[1])
        save_gradients(ctx, request, input, target, output[1])

    def backward(ctx: Any, grad_output: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        grads: list[Tensor | None] = [None] * len(names)
        if grad_output is None:
            return tuple(grads)
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        grads[0], grads[1] = times_upstream(ctx, grad_output, ctx.needs_input_grad[:2])
        return tuple(grads)

    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=setup_context)


for _loss, _operator in _OPERATORS.items():
    _register(_loss, _operator)

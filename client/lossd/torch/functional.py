"""torch.nn.functional's losses, computed by a lossd server.

Signatures, defaults, result dtypes, warnings and refusals are PyTorch's. client: the lossd.Client that is asked, by
default that of `lossd.torch.set_client`, or one for LOSSD_SERVER. Forward asks for the gradients that backward will
need, so that one call is all. A second derivative is a RuntimeError.
"""

from __future__ import annotations

import warnings
from operator import index

import torch
from torch import Tensor
from torch.nn import _reduction

from lossd.client import Client
from lossd.torch.default_client import number_of
from lossd.torch.dispatch import remote_loss
from lossd.torch.request import BCE, BCE_WITH_LOGITS, CROSS_ENTROPY, KL_DIV, NLL, LossRequest


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    client: Client | None = None,
) -> Tensor:
    """torch.nn.functional.cross_entropy. Class weights have a gradient where PyTorch gives one: for distributions."""
    request = LossRequest(
        CROSS_ENTROPY,
        _reduction_of(reduction, size_average, reduce),
        ignore_index=_whole(ignore_index),
        label_smoothing=label_smoothing,
        as_float32=_autocasts(input),
        client=number_of(client),
    )
    if isinstance(weight, Tensor) and weight.requires_grad and torch.is_grad_enabled():
        if not target.is_floating_point() or target.shape != input.shape:
            _refuse_gradient("nll_loss_forward", weight=weight)
        # l = −Σ w·t'·log p: with w·t' as target, PyTorch derives the weight's gradient from the target's.
        classes = input.shape[1 if input.ndim > 1 else 0]
        target = target * (1 - label_smoothing) + label_smoothing / classes
        target = target * weight.reshape(-1, *(1,) * (input.ndim - 2))
        return remote_loss(request._replace(label_smoothing=0.0), input, target)
    return remote_loss(request, input, target, weight)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    client: Client | None = None,
) -> Tensor:
    """torch.nn.functional.nll_loss."""
    _refuse_gradient("nll_loss_forward", weight=weight)
    request = LossRequest(
        NLL,
        _reduction_of(reduction, size_average, reduce),
        ignore_index=_whole(ignore_index),
        as_float32=_autocasts(input),
        client=number_of(client),
    )
    return remote_loss(request, input, target, weight)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    *,
    client: Client | None = None,
) -> Tensor:
    """torch.nn.functional.binary_cross_entropy. Under autocast on a GPU a RuntimeError, as PyTorch's."""
    autocasts = _autocasts(input)
    if autocasts and input.device.type != "cpu":
        raise RuntimeError(
            "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
            "Give logits to binary_cross_entropy_with_logits or BCEWithLogitsLoss instead of their sigmoid."
        )
    _refuse_gradient(BCE, weight=weight)
    reduction = _reduction_of(reduction, size_average, reduce)
    return remote_loss(
        LossRequest(BCE, reduction, as_float32=autocasts, client=number_of(client)), input, target, weight
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    client: Client | None = None,
) -> Tensor:
    """torch.nn.functional.binary_cross_entropy_with_logits."""
    _refuse_gradient(BCE_WITH_LOGITS, weight=weight, pos_weight=pos_weight)
    request = LossRequest(
        BCE_WITH_LOGITS,
        _reduction_of(reduction, size_average, reduce),
        as_float32=_autocasts(input),
        client=number_of(client),
    )
    return remote_loss(request, input, target, weight, pos_weight)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
    *,
    client: Client | None = None,
) -> Tensor:
    """torch.nn.functional.kl_div. Input and target broadcast."""
    if size_average is None and reduce is None:
        if reduction == "mean" and not torch.compiler.is_compiling():
            warnings.warn(
                "reduction: 'mean' divides the total loss by both the batch size and the support size. "
                "'batchmean' divides by the batch size, and is what KL divergence means.",
                stacklevel=2,
            )
        if reduction != "batchmean":
            reduction = _reduction_of(reduction, None, None)
    else:
        reduction = _reduction_of(reduction, size_average, reduce)
    request = LossRequest(
        KL_DIV, reduction, log_target=log_target, as_float32=_autocasts(input), client=number_of(client)
    )
    if _broadcasts(input, target):
        if reduction == "batchmean":  # divided by the input's length as it was given
            request = request._replace(reduction="sum")
            if input.ndim and len(input):
                request = request._replace(reduction="mean", normalizer=float(len(input)))
        # A scalar takes the other's dtype, before it is one no more.
        dtype = torch.result_type(input, target)
        target, input = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
            target if target.ndim else target.to(dtype), input if input.ndim else input.to(dtype)
        )
    return remote_loss(request, input, target)


def _reduction_of(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """PyTorch's own reading of its legacy pair, with its refusals, and its warnings outside of graphs."""
    warns = not torch.compiler.is_compiling()  # Dynamo cannot trace a warning
    if size_average is not None or reduce is not None:
        return _reduction.legacy_get_string(size_average, reduce, emit_warning=warns)
    if warns or reduction != "elementwise_mean":
        _reduction.get_enum(reduction)
    return "mean" if reduction == "elementwise_mean" else reduction


def _broadcasts(input: object, target: object) -> bool:
    """Whether the two have different shapes, and dtypes that PyTorch takes."""
    if not (isinstance(input, Tensor) and isinstance(target, Tensor)):
        return False
    return input.shape != target.shape and input.is_floating_point() and target.is_floating_point()


def _whole(number: int) -> int:
    """numpy's integers as Python's. What is none stays, to be refused as PyTorch does."""
    return index(number) if hasattr(number, "__index__") else number


def _autocasts(input: object) -> bool:
    """Whether autocast computes in float32 on the input's device, as it does all of these losses."""
    kind = input.device.type if isinstance(input, Tensor) else "cpu"
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _refuse_gradient(function: str, **weights: Tensor | None) -> None:
    """Raises as PyTorch does where a weight's gradient would be needed that it has no formula for."""
    if torch.is_grad_enabled():
        for name, weight in weights.items():
            if isinstance(weight, Tensor) and weight.requires_grad:
                raise RuntimeError(
                    f"The function '{function}' is not differentiable with respect to argument '{name}'. "
                    "This input cannot have requires_grad True."
                )

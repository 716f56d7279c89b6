"""Refusals: what PyTorch says of arguments that it, or the server, does not take."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from lossd.errors import InvalidArgument
from lossd.torch.request import BCE, BCE_WITH_LOGITS, CROSS_ENTROPY, KL_DIV, LossRequest

Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def compute_locally(request: LossRequest, tensors: Tensors) -> Tensor:
    """What PyTorch itself makes of them. tensors: input, target, weight and pos_weight."""
    if request.as_float32:
        tensors = tuple(map(_widened, tensors))  # type: ignore[assignment]  # four again
    input, target, weight, pos_weight = tensors
    reduction = "sum" if request.loss == KL_DIV and request.reduction != "none" else request.reduction
    # Of neither a mode's nor a subclass's: PyTorch's own.
    with torch._C.DisableTorchFunction(), torch.no_grad(), torch.autocast(_device(input), enabled=False):
        if request.loss == BCE_WITH_LOGITS:
            return F.binary_cross_entropy_with_logits(input, target, weight, reduction=reduction, pos_weight=pos_weight)
        if request.loss == KL_DIV:
            return F.kl_div(input, target, reduction=reduction, log_target=request.log_target)
        if request.loss == BCE:
            return F.binary_cross_entropy(input, target, weight, reduction=reduction)
        index = request.ignore_index
        if request.loss == CROSS_ENTROPY:
            smoothing = request.label_smoothing
            return F.cross_entropy(
                input, target, weight, ignore_index=index, reduction=reduction, label_smoothing=smoothing
            )
        return F.nll_loss(input, target, weight, ignore_index=index, reduction=reduction)


def _widened(tensor: Tensor | None) -> Tensor | None:
    if isinstance(tensor, Tensor) and tensor.dtype in (torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor


def _device(input: object) -> str:
    """The kind of device whose autocast is turned off: the CPU's where its own has none, as meta."""
    kind = input.device.type if isinstance(input, Tensor) else "cpu"
    return kind if torch.amp.is_autocast_available(kind) else "cpu"


def as_pytorch(error: InvalidArgument, request: LossRequest, tensors: Tensors) -> NoReturn:
    """Raises `error` so that it is what PyTorch raises of these tensors, too, with its sentence before ours."""
    try:
        compute_locally(request, tensors)
    except (RuntimeError, ValueError, IndexError, TypeError) as said:
        kind: type[Exception] = type(said)
        sentence = f"{said} ({error.message})"
    else:
        # PyTorch takes it. What its kernels refuse is a RuntimeError, so whoever expects one finds it.
        kind, sentence = RuntimeError, error.message
    raise _both(kind)(
        sentence,
        field=error.field,
        reason=error.reason,
        metadata=error.metadata,
        request_id=error.request_id,
        details=error.details,
        on_the_way=error.on_the_way,
    ) from error


class RuntimeRefusal(InvalidArgument, RuntimeError):
    """PyTorch raises a RuntimeError."""


class IndexRefusal(InvalidArgument, IndexError):
    """PyTorch raises an IndexError: a class out of range."""


class TypeRefusal(InvalidArgument, TypeError):
    """PyTorch raises a TypeError."""


class NotImplementedRefusal(InvalidArgument, NotImplementedError):
    """PyTorch raises a NotImplementedError, which is a RuntimeError."""


def _both(kind: type[Exception]) -> type[InvalidArgument]:
    """The class that is InvalidArgument and `kind`."""
    for refusal in (NotImplementedRefusal, RuntimeRefusal, IndexRefusal, TypeRefusal):
        if issubclass(kind, refusal.__bases__[1]):
            return refusal
    return InvalidArgument  # a ValueError

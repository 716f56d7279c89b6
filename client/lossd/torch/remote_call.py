"""One remote call: PyTorch's tensors to the client, its loss and gradients back to where the tensors lie."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossd.client import Client
from lossd.errors import InvalidArgument
from lossd.results import Result
from lossd.torch.default_client import client_of
from lossd.torch.refusal import Tensors, as_pytorch
from lossd.torch.request import BCE, BCE_WITH_LOGITS, CROSS_ENTROPY, KL_DIV, NLL, LossRequest
from lossd.torch.result_dtype import result_dtype

# The client's methods by PyTorch's names.
_METHODS = {
    CROSS_ENTROPY: "cross_entropy",
    NLL: "nll",
    BCE: "bce",
    BCE_WITH_LOGITS: "bce_with_logits",
    KL_DIV: "kl_divergence",
}
_NUMPYS = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


def ask(request: LossRequest, *tensors: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """The loss in PyTorch's dtype, and the gradients asked for, each of its tensor's shape.

    tensors: input, target, weight and pos_weight, on any device. A gradient has its tensor's dtype; that of a float16
    mean is float32, so that numbers below float16's are there when they are scaled.
    """
    input, *others = (None if tensor is None else tensor.detach().cpu() for tensor in tensors)
    given: Any = (input, *others)
    dtype = result_dtype(request, given)
    undivided = is_undivided(request, given)
    client = client_of(request.client)
    try:
        result = _ask(client, request, given, undivided)
    except InvalidArgument as error:
        as_pytorch(error, request, given)
    loss = torch.from_numpy(result.loss)
    gradients = [_as_torch(result.grads[name]) for name in request.gradients.split()]
    if undivided:
        denominator = _denominator(request, result, given[0])
        loss = loss.double() / denominator
        gradients = [gradient.to(scalable_dtype(gradient.dtype, undivided)) for gradient in gradients]
        if result.summary.count:  # without kept rows they are 0
            gradients = [gradient.div_(denominator) for gradient in gradients]
    device = tensors[0].device if tensors[0] is not None else None
    return loss.to(device, dtype), [gradient.to(device) for gradient in gradients]


def _ask(client: Client, request: LossRequest, given: Tensors, undivided: bool) -> Result:
    input, target, weight, pos_weight = map(_as_numpy, given)
    # Each only where it is not the default, and none that could be changed: such calls have the client's templates.
    options: dict[str, Any] = {}
    if request.reduction != "mean":
        options["reduction"] = request.reduction
    if request.gradients:
        options["grad"] = tuple(request.gradients.split())
    if undivided:
        options["normalizer"] = 1.0
    elif request.normalizer is not None:
        options["normalizer"] = request.normalizer
    if weight is not None:
        options["weight"] = weight
    if pos_weight is not None:
        options["pos_weight"] = pos_weight
    if request.has_classes and request.ignore_index != -100:
        options["ignore_index"] = request.ignore_index
    if request.label_smoothing:
        options["label_smoothing"] = request.label_smoothing
    if request.log_target:
        options["target_kind"] = "log_probabilities"
    method: Any = getattr(client, _METHODS[request.loss])
    result: Result = method(input, target, **options)
    return result


def _as_numpy(tensor: Tensor | None) -> Any:
    """The same memory for numpy, where it can have it: the client is quickest with its arrays."""
    return tensor.numpy() if tensor is not None and tensor.dtype in _NUMPYS and not tensor.is_sparse else tensor


def _as_torch(array: Any) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def is_undivided(request: LossRequest, tensors: Tensors) -> bool:
    """Whether the gradients of a mean are asked for without its denominator, to be divided in float32.

    float16 ends at 6e-8, and GradScaler's factor would come too late.
    """
    if not request.gradients or request.reduction not in ("mean", "batchmean"):
        return False
    return torch.float16 in (tensors[0].dtype, tensors[1].dtype)


def _denominator(request: LossRequest, result: Result, input: Tensor) -> float:
    if request.normalizer is not None:
        return request.normalizer
    if request.reduction == "batchmean":
        return len(input) if input.ndim else 1
    return result.summary.weight_sum


def scalable_dtype(dtype: torch.dtype, undivided: bool) -> torch.dtype:
    """The dtype in which the gradient of a tensor of `dtype` waits for the upstream one."""
    return torch.promote_types(dtype, torch.float32) if undivided else dtype

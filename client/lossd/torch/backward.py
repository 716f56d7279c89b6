"""What backward does: gradients by the upstream one, which every loss here is linear in. No second call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lossd.torch.request import LossRequest

NO_SECOND_DERIVATIVE = (
    "lossd computes first derivatives only: a second derivative of a remote loss was asked for. "
    "Leave out create_graph=True (hessian, gradgradcheck), or compute this loss with torch.nn.functional"
)

NO_FORWARD_MODE = (
    "lossd has no forward-mode derivatives (torch.func.jvp, jacfwd, hessian, forward_ad): use torch.func.grad, vjp or "
    "jacrev, or compute this loss with torch.nn.functional"
)


def save_gradients(ctx: Any, request: LossRequest, input: Tensor, target: Tensor, gradients: Sequence[Tensor]) -> None:
    """Puts on `ctx` what `times_upstream` needs of an evaluation."""
    ctx.set_materialize_grads(False)
    ctx.request = request
    ctx.dtypes = {"input": input.dtype, "target": target.dtype}
    # An ignored row's gradient is 0 whatever comes from above, and so is NLL's beside the target: NaN and inf too.
    ctx.zeros_stay = request.has_classes and not target.is_floating_point()
    ctx.save_for_backward(*gradients)


def times_upstream(
    ctx: Any, grad_output: Tensor, needs: Sequence[bool], *, in_place: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of input and target, times `grad_output`, the upstream gradient, of the loss's shape.

    needs: whether input and target need one; RuntimeError where that was not asked for. in_place: what was saved is
    needed no more, and is overwritten; numbers on the CPU may be looked at.
    """
    request: LossRequest = ctx.request
    asked = request.gradients.split()
    for name, needed in zip(("input", "target"), needs, strict=True):
        if needed and name not in asked:
            raise RuntimeError(
                f"the gradient of {name} was not asked for when the loss was computed (gradients = "
                f"{request.gradients!r}): compute, compile or export it with requires_grad set and gradients enabled"
            )
    known = in_place and grad_output.device.type == "cpu"
    zeros_stay = ctx.zeros_stay and not (known and bool(grad_output.isfinite().all()))
    is_one = known and grad_output.ndim == 0 and float(grad_output) == 1
    if request.has_classes and grad_output.ndim:
        grad_output = grad_output.unsqueeze(1)
    found: dict[str, Tensor] = {}
    for name, gradient in zip(asked, ctx.saved_tensors, strict=True):
        dtype: torch.dtype = ctx.dtypes[name]
        if zeros_stay:
            found[name] = torch.where(gradient == 0, 0, gradient * grad_output).to(dtype)
        elif not in_place or gradient.dtype != dtype:
            found[name] = (gradient * grad_output).to(dtype)
        else:
            found[name] = gradient if is_one else gradient.mul_(grad_output)
    return found.get("input"), found.get("target")

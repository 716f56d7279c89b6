"""From unreduced losses to the answer: reduction, denominators, upstream gradient and base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.oracle.exact import NAN, ONE, ZERO, Number, Numbers, decode, full, mp, total


@dataclass(frozen=True)
class Reference:
    """What the server should answer, exactly.

    loss: 0-d, or of the losses' shape for none; an activation's values, whose loss_sum and weight_sum are None. grads:
    by tensor name, of the tensor's shape. outputs: by name. sizes: by the name of a gradient or output, "loss" and
    "loss_sum" too, of the numbers whose difference it is where its formula cancels and no other is known.
    """

    loss: Numbers
    grads: dict[str, Numbers]
    loss_sum: Number
    weight_sum: Number
    count: int
    sizes: dict[str, Number] = field(default_factory=dict)
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reducing:
    """The options that every loss shares, as the client names them."""

    reduction: str = "mean"
    normalizer: float | None = None
    empty_mean: str = "nan"
    grad_output: Any = None
    base: float | None = None
    row_weight: Any = None
    grad: Any = field(default=None, compare=False)  # which gradients to send back: here all are computed

    def row_weights(self, shape: tuple[int, ...]) -> Numbers:
        """r, one entry a row: 1 where absent."""
        return full(shape, ONE) if self.row_weight is None else decode(self.row_weight)

    @property
    def per_nat(self) -> Number:
        """1 / ln(base)."""
        return ONE if self.base is None else ONE / mp.log(mp.mpf(self.base))

    def scales(self, shape: tuple[int, ...], weight_sum: Number, count: int) -> Numbers:
        """s of every loss: upstream / denominator / ln(base)."""
        upstream = decode(1.0 if self.grad_output is None else self.grad_output)
        if self.reduction != "mean":
            denominator = ONE
        elif self.normalizer is not None:
            denominator = mp.mpf(self.normalizer)
        elif count == 0:
            return full(shape, ZERO)
        elif weight_sum == 0:  # PyTorch's 0/0, which smoothing's part cannot mend
            return full(shape, NAN)
        else:
            denominator = weight_sum
        each = np.empty(shape, dtype=object)
        each[...] = np.broadcast_to(upstream, shape)
        each.reshape(-1)[:] = [g / denominator * self.per_nat for g in each.reshape(-1)]
        return each

    def finish(self, losses: Numbers, weight_sum: Number, count: int, grads: Mapping[str, Numbers]) -> Reference:
        """losses: in nats, weighted, not reduced. grads: already scaled."""
        losses = np.asarray(losses * self.per_nat, dtype=object)
        loss_sum = total(losses.reshape(-1))
        if self.reduction == "none":
            loss = losses
        elif self.reduction == "sum":
            loss = full((), loss_sum)
        elif self.normalizer is not None:
            loss = full((), loss_sum / mp.mpf(self.normalizer))
        elif count == 0:
            loss = full((), ZERO if self.empty_mean == "zero" else NAN)
        else:
            loss = full((), NAN if weight_sum == 0 else loss_sum / weight_sum)
        return Reference(loss, dict(grads), loss_sum, weight_sum, count)

    def sizes(self, parts: list[Number], reference: Reference) -> dict[str, Number]:
        """Those of the loss: the most for none, else their sum over its denominator. parts: in nats, one a loss."""
        most, whole = max(parts, default=ZERO) * self.per_nat, total(parts) * self.per_nat
        if self.reduction == "none":
            return {"loss": most, "loss_sum": whole}
        denominator = ONE if self.reduction == "sum" else mp.mpf(self.normalizer or reference.weight_sum or 1)
        return {"loss": whole / abs(denominator), "loss_sum": whole}

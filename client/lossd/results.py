"""What a call gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import tensors
from lossd.v1 import loss_pb2


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reduced loss is made of, whatever the reduction asked for.

    loss_sum: the losses' sum before any denominator, in the loss's unit. weight_sum: the denominator that mean uses.
    count: kept rows; elements for the elementwise losses.
    """

    loss_sum: float
    weight_sum: float
    count: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time went: waiting and computing on the server, with whom, and in all as the caller saw it."""

    queue_s: float
    compute_s: float
    batch_requests: int
    batch_rows: int
    total_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A loss and what was asked for beside it.

    loss: numpy; 0-d for mean, sum and batchmean, the loss's own shape for none. grads: {"input": …, "target": …,
    "weight": …}, each the kind of array that its tensor was given as. outputs: {"argmax": …}, numpy.
    """

    loss: npt.NDArray[Any]
    summary: Summary
    timing: Timing
    grads: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def grad(self) -> Any:
        """d loss / d input, of the input's shape; None unless it was asked for."""
        return self.grads.get("input")

    def __float__(self) -> float:
        if self.loss.size != 1:
            raise TypeError(f"the loss has shape {self.loss.shape}: only a scalar one is a float")
        return float(self.loss.reshape(()))


def read(response: Any, *, torch: frozenset[str], gradients: Iterable[str], outputs: bool, total_s: float) -> Result:
    """The Result in the response message of any loss. torch: the tensors whose gradients shall be torch's."""
    grads = {}
    for name in gradients:
        if response.HasField(f"{name}_gradient"):
            grads[name] = tensors.give(getattr(response, f"{name}_gradient"), torch=name in torch)
    summary, timing = response.summary, response.timing
    return Result(
        loss=tensors.give(response.loss),
        summary=Summary(summary.loss_sum, summary.weight_sum, summary.count),
        timing=Timing(
            timing.queue_ns / 1e9, timing.compute_ns / 1e9, timing.batch_requests, timing.batch_rows, total_s
        ),
        grads=grads,
        outputs=_read_outputs(response.outputs) if outputs else {},
    )


def _read_outputs(outputs: loss_pb2.Outputs) -> dict[str, npt.NDArray[np.generic]]:
    return {descriptor.name: tensors.give(tensor) for descriptor, tensor in outputs.ListFields()}

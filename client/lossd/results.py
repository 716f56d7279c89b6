"""Results: what a call gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import nan
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from lossd import wire
from lossd.errors import InternalError
from lossd.options import TensorName
from lossd.request import tensors
from lossd.v1 import loss_pb2
from lossd.v1 import tensor_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from lossd.request.build import Call

    # What the gradient by the input is: an array, or None where it was not asked for.
    GradT_co = TypeVar("GradT_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    # Python 3.13 is the first whose own takes a default.
    GradT_co = TypeVar("GradT_co", covariant=True)

# Elements of large tensors of a message, by the path of field names to them.
Data = Mapping[tuple[str, ...], memoryview]
NO_DATA: Data = {}
NO_BLOCKS: Mapping[str, Any] = {}
OUTPUTS = tuple(one.name for one in loss_pb2.Outputs.DESCRIPTOR.fields)


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result(Generic[GradT_co]):
    """A loss and what was asked for beside it.

    A scalar one is a number to float(), item() and format(), and any is an array to numpy.

    loss: numpy; 0-d for mean, sum and batchmean, the loss's own shape for none. grads: {"input": …, "target": …,
    "weight": …}, each the kind of array that its tensor was given as. outputs: {"argmax": …}, numpy.
    """

    loss: npt.NDArray[Any]
    summary: Summary
    timing: Timing
    grads: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def grad(self) -> GradT_co:
        """d loss / d input, of the input's shape; None unless it was asked for."""
        grad: Any = self.grads.get("input")
        return grad  # type: ignore[no-any-return]  # the overloads say which

    def item(self) -> float:
        """A scalar loss as a Python number."""
        if self.loss.size != 1:
            raise TypeError(f"the loss has shape {self.loss.shape}: only a scalar one is a float")
        return float(self.loss.reshape(()))

    def __float__(self) -> float:
        return self.item()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The loss. numpy 1 passes no `copy`; copy=False that cannot be is a ValueError, as numpy's."""
        wanted = self.loss.dtype if dtype is None else np.dtype(dtype)
        if wanted == self.loss.dtype:
            return self.loss.copy() if copy else self.loss
        if copy is False:
            raise ValueError(f"the loss is {self.loss.dtype}: as {wanted} it must be copied")
        return self.loss.astype(wanted)

    def __repr__(self) -> str:
        loss = f"{self.item():.8g}" if self.loss.size == 1 else str(self.loss.dtype)
        parts = [f"loss={loss}", f"shape={self.loss.shape}"]
        parts += [f"grads={_shapes(self.grads)}"] if self.grads else []
        parts += [f"outputs={_shapes(self.outputs)}"] if self.outputs else []
        return f"Result({', '.join(parts)})"


def _shapes(arrays: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{name}: {tuple(array.shape)}' for name, array in arrays.items())}}}"


def read_result(call: Call, body: bytes, total_s: float = nan) -> Result:
    """What the serialised answer says. total_s: the call's seconds, as its caller saw them."""
    response, data = parse(call.asked.response.DESCRIPTOR, body)
    return from_message(call, response, data, total_s)


def parse(descriptor: Any, body: bytes) -> tuple[Any, Data]:
    """A message of the server's, and the elements of its large tensors, by path. Raises InternalError."""
    try:
        return wire.take_large_data(descriptor, body)
    except DecodeError:
        raise InternalError(f"the answer of {len(body)} bytes is malformed", reason="MALFORMED_ANSWER") from None


def from_message(
    call: Call, response: Any, data: Data = NO_DATA, total_s: float = nan, blocks: Mapping[str, Any] = NO_BLOCKS
) -> Result:
    """The Result in the response message of any loss.

    data: elements that were cut out of it, by path. blocks: what came in blocks before it, by field.
    """
    summary, timing = response.summary, response.timing
    return Result(
        loss=blocks["loss"] if "loss" in blocks else _loss(call, response, data),
        summary=Summary(summary.loss_sum, summary.weight_sum, summary.count),
        timing=Timing(
            timing.queue_ns / 1e9, timing.compute_ns / 1e9, timing.batch_requests, timing.batch_rows, total_s
        ),
        grads={
            name: blocks[field] if field in blocks else _gradient(call, response, name, data)
            for name, field in _fields(call.asked.gradients)
            if field in blocks or response.HasField(field)
        },
        outputs=_outputs(response.outputs, data, blocks) if "outputs" in call.asked.fields else {},
    )


def _loss(call: Call, response: Any, data: Data) -> Any:
    """numpy's; an activation's value is the kind of array that its input was given as."""
    torch = call.asked.rpc == "Activation" and call.operands["input"].torch
    return tensors.give(response.loss, torch=torch, data=data.get(("loss",)))


@cache
def _fields(gradients: tuple[TensorName, ...]) -> tuple[tuple[TensorName, str], ...]:
    return tuple((name, f"{name}_gradient") for name in gradients)


def _gradient(call: Call, response: Any, name: str, data: Data) -> Any:
    field = f"{name}_gradient"
    tensor: pb.Tensor = getattr(response, field)
    elements = data.get((field,))
    place = call.out.get(name)
    if place is not None:
        if tensor.HasField("shared_memory"):
            place.settle()
        else:
            place.fill(tensor.data if elements is None else elements)
        return place.given
    operand = call.operands.get(name)
    return tensors.give(tensor, torch=operand is not None and operand.torch, data=elements)


def _outputs(outputs: loss_pb2.Outputs, data: Data, blocks: Mapping[str, Any]) -> dict[str, npt.NDArray[np.generic]]:
    whole = {
        one.name: tensors.give(tensor, data=data.get(("outputs", one.name))) for one, tensor in outputs.ListFields()
    }
    return whole | {name: array for name, array in blocks.items() if name in OUTPUTS}

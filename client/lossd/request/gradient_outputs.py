"""Gradient outputs: arrays of the caller's that gradients are written into (`out=`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import contract
from lossd.errors import InternalError, InvalidArgument
from lossd.request import tensors
from lossd.request.tensors import Operand

# Steps to find out whether arrays with gaps share memory.
_MOST_WORK = 1 << 16

# An array for the only gradient, or arrays by the names of their tensors.
Given = Any


@dataclass(frozen=True, slots=True)
class GradientOutput:
    """given: the caller's array. memory: its bytes, flat and writable. in_place: it is the very tensor of its gradient.

    landed: where in shared memory the server writes the gradient, `memory` itself or not; None: the answer has it.
    """

    given: Any
    memory: npt.NDArray[np.uint8]
    landed: npt.NDArray[np.uint8] | None = None
    in_place: bool = False

    def fill(self, data: bytes | memoryview, start: int = 0) -> None:
        """Copies the elements of a gradient, or of a part of it, to byte `start`."""
        if len(data) > self.memory.size - start:
            raise InternalError(
                f"the answer holds a gradient of {start + len(data)} bytes, not {self.memory.size}",
                reason="MALFORMED_ANSWER",
            )
        self.memory[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def settle(self) -> None:
        """Once the server has written."""
        if self.landed is not None and self.landed is not self.memory:
            np.copyto(self.memory, self.landed)


NONE: Mapping[str, GradientOutput] = {}


def check_outputs(
    given: Given, gradients: tuple[str, ...], operands: Mapping[str, Operand]
) -> dict[str, GradientOutput]:
    """The place of every gradient in `given`; InvalidArgument where one does not fit its array, or is not asked for.

    Also where it shares memory with another one, or with a tensor: only the tensor that it is the gradient of may have
    the same memory, all of it.
    """
    named = given if isinstance(given, Mapping) else {gradients[0] if len(gradients) == 1 else "input": given}
    outputs: dict[str, GradientOutput] = {}
    for name, array in named.items():
        output = _place(name, array, gradients, operands)
        for other, earlier in outputs.items():
            if np.may_share_memory(output.memory, earlier.memory):  # exact, since both have no gaps
                raise _refused(f"out for {name} shares memory with out for {other}: give an array for each gradient")
        for tensor, operand in operands.items():
            if not _overlap(output.memory, operand.values):
                continue
            if tensor != name or not _is_all_of(output.memory, operand.values):
                raise _refused(
                    f"out for {name} shares memory with {tensor}, which would be overwritten while it is read: give "
                    "another array" + (", or the whole tensor itself" if tensor == name else "")
                )
            output = replace(output, in_place=True)
        outputs[name] = output
    return outputs


def _place(name: str, given: Any, gradients: tuple[str, ...], operands: Mapping[str, Operand]) -> GradientOutput:
    if name not in gradients:
        asked = ", ".join(gradients) or "none"
        raise _refused(f"out has an array for the gradient of {name}, but grad asks for {asked}: give grad={name!r}")
    dtype, shape = expected(name, operands)
    array = _numpy(given)
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise _refused(f"out for {name} is a {type(given).__name__}, not an array to write into")
    wanted = tensors.NAMES[dtype]
    found = str(getattr(given, "dtype", array.dtype)).removeprefix("torch.")
    if found != wanted or array.dtype.byteorder == ">" or tuple(array.shape) != shape:
        raise _refused(f"out for {name} is {found} {list(array.shape)}, the gradient is {wanted} {list(shape)}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise _refused(f"out for {name} must be writable and lie in C order without gaps")
    return GradientOutput(given, array.reshape(-1).view(np.uint8))


def _overlap(memory: npt.NDArray[np.uint8], values: npt.NDArray[Any]) -> bool:
    """Whether they share a byte; true, too, where that would take long to find out."""
    if not np.may_share_memory(memory, values):
        return False
    try:
        return np.shares_memory(memory, values, max_work=_MOST_WORK)  # type: ignore[arg-type]  # any int is taken
    except np.exceptions.TooHardError:
        return True


def _is_all_of(memory: npt.NDArray[np.uint8], values: npt.NDArray[Any]) -> bool:
    same = memory.__array_interface__["data"][0] == values.__array_interface__["data"][0]
    return same and memory.nbytes == values.nbytes and bool(values.flags.c_contiguous)


def expected(name: str, operands: Mapping[str, Operand]) -> tuple[Any, tuple[int, ...]]:
    """Wire dtype and shape of the gradient of the tensor `name`."""
    operand = operands.get(name)
    if operand is not None:
        return contract.gradient_dtype(operand.dtype), operand.shape
    # The gradient of weights that were not given: all ones, one a class.
    shape = operands["input"].shape
    wide = any(one.dtype == tensors.FLOAT64 for one in operands.values())
    return tensors.FLOAT64 if wide else tensors.FLOAT32, shape[1:2] if len(shape) > 1 else shape


def _numpy(given: Any) -> Any:
    torch: Any = sys.modules.get("torch")
    if torch is None or isinstance(given, np.ndarray) or not torch.is_tensor(given):
        return given
    # A view of the same memory as bytes, since numpy lacks some of torch's dtypes; shaped as the tensor is.
    if given.device.type != "cpu" or not given.is_contiguous() or given.requires_grad:
        raise _refused("out is a torch tensor that cannot be written: give a contiguous one on the CPU, without grad")
    bits = getattr(torch, {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}[given.element_size()])
    return given.detach().view(bits).numpy()


def _refused(sentence: str) -> InvalidArgument:
    return InvalidArgument(sentence, field="out", reason="OUT_DOES_NOT_FIT")

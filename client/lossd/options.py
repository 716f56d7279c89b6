"""Types of what a method takes: tensors, and the values that options may have. For type checkers and readers.

Absent and None mean PyTorch's default everywhere. Units: losses are in nats, in bits where base = 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, TypeAlias


class SupportsDLPack(Protocol):
    """Arrays of torch, JAX, CuPy and others, on the CPU."""

    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> Any: ...


class SupportsArray(Protocol):
    """numpy's arrays and scalars, and what pandas, polars and Arrow hold."""

    def __array__(self) -> Any: ...


class SupportsBuffer(Protocol):
    """memoryview, array.array, mmap."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class NestedSequence(Protocol):
    """Lists and tuples of numbers, however deep."""

    # What tells a text apart, whose own takes a text only. First, since pyright decides by the first that differs.
    def __contains__(self, value: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def index(self, value: Any, /) -> int: ...
    def __getitem__(self, index: int, /) -> Tensor: ...


# What takes part in a call: an array of any kind that `lossd.request.tensors` reads, a list, or a number.
Tensor: TypeAlias = SupportsDLPack | SupportsArray | SupportsBuffer | NestedSequence | float


class TorchTensor(SupportsDLPack, Protocol):
    """A torch.Tensor, without torch: gradients and activations come back as the kind of array that was given."""

    @property
    def requires_grad(self) -> bool: ...
    def detach(self) -> Any: ...


TensorName = Literal["input", "target", "weight"]
Kind = Literal["logits", "log_probabilities", "probabilities", "counts"]
# Of cross-entropy; a divergence's target has a Kind.
TargetKind = Literal["indices", "probabilities", "counts"]
Reduction = Literal["none", "mean", "sum"]
EmptyMean = Literal["nan", "zero"]
Output = Literal["lse", "entropy", "argmax", "correct"]
Transport = Literal["auto", "unary", "stream", "shared_memory"]
# Told how many items are done, and how many there are.
Progress = Callable[[int, int], None]

# Which gradients are asked for: that by the input, or others alone.
InputGrad = Literal[True, "input"] | Iterable[TensorName]
OtherGrad = Literal[False, "target", "weight"] | None

LossName = Literal["entropy", "cross_entropy", "bce", "bce_with_logits", "kl_divergence", "nll", "self_information"]

# What `map` does with an item that fails; and how many items may be on their way: enough that the server has work
# while this side handles what came back.
Errors = Literal["raise", "yield"]
WINDOW = 1024

"""What each method's options are and what they may be: for type checkers and readers.

`lossd.request.build` has their wire names.

Absent and None mean PyTorch's default everywhere. Tensors: see `tensors`. Units: losses are in nats, in bits where
base = 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

# What takes part in a call: an array of any kind that `lossd.request.tensors` names.
Tensor = Any

TensorName = Literal["input", "target", "weight"]
Kind = Literal["logits", "log_probabilities", "probabilities", "counts"]
TargetKind = Literal["indices", "logits", "log_probabilities", "probabilities", "counts"]
Output = Literal["lse", "entropy", "argmax", "correct"]
# Told how many items are done, and how many there are.
Progress = Callable[[int, int], None]
Transport = Literal["auto", "unary", "stream", "shared_memory"]


class Common(TypedDict, total=False):
    """reduction: how losses become one; "batchmean" in kl_divergence only.
    grad: True for d loss / d input, or names. grad_output: upstream gradient, of the loss's shape; ones when absent.
    normalizer: replaces the mean's denominator, finite and > 0. empty_mean: the mean over no kept row.
    out: an array for the gradient to be written to, or arrays by name, of its shape and dtype, in C order; the result
    has that array. transport: "auto" chooses by place and size. progress: called with the items sent and all of them,
    by the thread that sends.
    """

    reduction: Literal["none", "mean", "sum", "batchmean"] | None
    grad: bool | TensorName | Iterable[TensorName] | None
    grad_output: Tensor
    normalizer: float | None
    empty_mean: Literal["nan", "zero"] | None
    out: Tensor | Mapping[TensorName, Tensor]
    transport: Transport | None
    progress: Progress | None


class Legacy(TypedDict, total=False):
    """PyTorch's deprecated pair: replaces `reduction`, with a warning."""

    size_average: bool | None
    reduce: bool | None


class Entropy(Common, total=False):
    kind: Kind | None
    base: float | None
    dim: int | None
    row_weight: Tensor


class CrossEntropy(Common, Legacy, total=False):
    weight: Tensor
    row_weight: Tensor
    ignore_index: int | None
    label_smoothing: float | None
    kind: Kind | None
    target_kind: TargetKind | None
    base: float | None
    z_loss: float | None
    softcap: float | None
    outputs: Output | Iterable[Output] | None


class BCE(Common, Legacy, total=False):
    weight: Tensor


class BCEWithLogits(Common, Legacy, total=False):
    weight: Tensor
    pos_weight: Tensor


class KLDivergence(Common, Legacy, total=False):
    kind: Kind | None
    target_kind: TargetKind | None
    log_target: bool | None
    base: float | None


class NLL(Common, Legacy, total=False):
    weight: Tensor
    ignore_index: int | None


class SelfInformation(Common, total=False):
    base: float | None

"""What each method's options are and what they may be: for type checkers and readers. `requests` has their wire names.

Absent and None mean PyTorch's default everywhere. Tensors: see `tensors`. Units: losses are in nats, in bits where
base = 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from lossd.tensors import Tensor

TensorName = Literal["input", "target", "weight"]
Kind = Literal["logits", "log_probabilities", "probabilities", "counts"]
TargetKind = Literal["indices", "logits", "log_probabilities", "probabilities", "counts"]
Output = Literal["lse", "entropy", "argmax", "correct"]


class Common(TypedDict, total=False):
    """reduction: how losses become one; "batchmean" in kl_divergence only.
    grad: True for d loss / d input, or names. grad_output: upstream gradient, of the loss's shape; ones when absent.
    normalizer: replaces the mean's denominator, finite and > 0. empty_mean: the mean over no kept row.
    """

    reduction: Literal["none", "mean", "sum", "batchmean"] | None
    grad: bool | TensorName | Iterable[TensorName] | None
    grad_output: Tensor
    normalizer: float | None
    empty_mean: Literal["nan", "zero"] | None


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

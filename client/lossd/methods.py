"""The verbs of both clients, written once: each hands its tensors and options on, and a transport answers.

Shapes: N rows, C classes; a row is one distribution along the class dimension, which is 1, or 0 for a 1-D input.
dtypes: floats may be mixed, and promote; 8- and 16-bit floats are computed in float32. The loss is float32, or float64
where any tensor is; a gradient has its tensor's dtype, but float32 for 8-bit floats. Options: `lossd.options`.
Errors: InvalidArgument names field, value and bound; every other `lossd.Error` says what can be done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, Unpack

from lossd import options as opt
from lossd.options import Tensor

# Result and an array, or awaitables of them.
ResultT = TypeVar("ResultT")
ArrayT = TypeVar("ArrayT")


class Methods(ABC, Generic[ResultT, ArrayT]):
    @abstractmethod
    def _evaluate(
        self, method: str, operands: tuple[Tensor, ...], options: Mapping[str, Any], timeout: float | None
    ) -> ResultT:
        """The result of a loss."""

    @abstractmethod
    def _activate(self, method: str, operand: Tensor, options: Mapping[str, Any], timeout: float | None) -> ArrayT:
        """The value of an activation."""

    def entropy(self, input: Tensor, *, timeout: float | None = None, **options: Unpack[opt.Entropy]) -> ResultT:
        """Shannon entropy of every row: H = −Σ p·log_b p; mean by default (torch.distributions.Categorical.entropy).

        input: float, at least 1-D: probabilities p; logits or counts (integers too) where `kind` says so.
        Options: kind, base (e: nats; 2: bits), dim, row_weight, and those of all losses (`lossd.options.Common`).
        """
        return self._evaluate("entropy", (input,), options, timeout)

    def cross_entropy(
        self, input: Tensor, target: Tensor, *, timeout: float | None = None, **options: Unpack[opt.CrossEntropy]
    ) -> ResultT:
        """Cross-entropy between logits and targets (torch.nn.functional.cross_entropy).

        l = −w[y]·log softmax(x)[y] for indices y; −Σ w·t·log softmax(x) for distributions t. In nats, or by `base`.
        input: float (C), (N, C) or (N, C, d1 … dk). target: integer (), (N) or (N, d1 … dk), each in [0, C) or
        ignore_index; or float of the input's shape. The mean's denominator is Σ w[y] over kept rows for indices, the
        number of rows for distributions.
        Options: weight (C), row_weight (one a row), ignore_index (−100), label_smoothing in [0, 1], kind, target_kind,
        base, z_loss, softcap, outputs ("lse", "entropy", "argmax", "correct"), size_average, reduce, and those of all
        losses. Gradients: input; target and weight with distributions.
        """
        return self._evaluate("cross_entropy", (input, target), options, timeout)

    def bce(
        self, input: Tensor, target: Tensor, *, timeout: float | None = None, **options: Unpack[opt.BCE]
    ) -> ResultT:
        """Binary cross-entropy of probabilities, element by element (torch.nn.functional.binary_cross_entropy).

        l = −w·[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)], in nats; the mean is over elements.
        input: float of any shape, in [0, 1]. target: of the same shape, in [0, 1]; float, bool or integer.
        Options: weight (broadcasts to the input), size_average, reduce, and those of all losses.
        Gradients: input, target.
        """
        return self._evaluate("bce", (input, target), options, timeout)

    def bce_with_logits(
        self, input: Tensor, target: Tensor, *, timeout: float | None = None, **options: Unpack[opt.BCEWithLogits]
    ) -> ResultT:
        """Binary cross-entropy of logits (torch.nn.functional.binary_cross_entropy_with_logits).

        l = w·[pw·t·ln(1 + exp(−x)) + (1−t)·ln(1 + exp x)], in nats; the mean is over elements.
        input: float of any shape. target: of the same shape; float, bool or integer.
        Options: weight and pos_weight (broadcast to the input), size_average, reduce, and those of all losses.
        Gradients: input, target.
        """
        return self._evaluate("bce_with_logits", (input, target), options, timeout)

    def kl_divergence(
        self, input: Tensor, target: Tensor, *, timeout: float | None = None, **options: Unpack[opt.KLDivergence]
    ) -> ResultT:
        """Kullback–Leibler divergence, element by element (torch.nn.functional.kl_div).

        l = p·(ln p − ln q): q is the input, as log-probabilities unless `kind` says otherwise; p is the target, as
        probabilities unless `target_kind` or log_target=True do. The mean is over elements; reduction="batchmean" over
        dimension 0, which is the divergence's definition. target: of the input's shape.
        Options: kind, target_kind, log_target, base, size_average, reduce, and those of all losses.
        Gradients: input, target.
        """
        return self._evaluate("kl_divergence", (input, target), options, timeout)

    def nll(
        self, input: Tensor, target: Tensor, *, timeout: float | None = None, **options: Unpack[opt.NLL]
    ) -> ResultT:
        """Negative log-likelihood: l = −w[y]·u[y] (torch.nn.functional.nll_loss).

        input: log-probabilities u, float (C), (N, C) or (N, C, d1 … dk). target: integer (), (N) or (N, d1 … dk). The
        mean's denominator is Σ w[y] over kept rows.
        Options: weight (C), ignore_index (−100), size_average, reduce, and those of all losses. Gradient: input.
        """
        return self._evaluate("nll", (input, target), options, timeout)

    def self_information(
        self, input: Tensor, *, timeout: float | None = None, **options: Unpack[opt.SelfInformation]
    ) -> ResultT:
        """Self-information of every probability: −log_b p; not reduced by default.

        input: float of any shape. Options: base (e: nats; 2: bits), and those of all losses. Gradient: input.
        """
        return self._evaluate("self_information", (input,), options, timeout)

    def softmax(
        self,
        input: Tensor,
        *,
        dim: int | None = None,
        timeout: float | None = None,
        transport: opt.Transport | None = None,
    ) -> ArrayT:
        """exp(x) / Σ exp(x) along `dim`, 1 by default, 0 for a 1-D input (torch.nn.functional.softmax).

        input: float of any shape. The answer has its shape, dtype and kind of array; so have those below.
        """
        return self._activate("softmax", input, {"dim": dim, "transport": transport}, timeout)

    def log_softmax(
        self,
        input: Tensor,
        *,
        dim: int | None = None,
        timeout: float | None = None,
        transport: opt.Transport | None = None,
    ) -> ArrayT:
        """x − ln Σ exp(x) along `dim`, 1 by default, 0 for a 1-D input (torch.nn.functional.log_softmax)."""
        return self._activate("log_softmax", input, {"dim": dim, "transport": transport}, timeout)

    def sigmoid(self, input: Tensor, *, timeout: float | None = None, transport: opt.Transport | None = None) -> ArrayT:
        """1 / (1 + exp(−x)) of every element (torch.nn.functional.sigmoid)."""
        return self._activate("sigmoid", input, {"transport": transport}, timeout)

    def log_sigmoid(
        self, input: Tensor, *, timeout: float | None = None, transport: opt.Transport | None = None
    ) -> ArrayT:
        """−ln(1 + exp(−x)) of every element (torch.nn.functional.logsigmoid)."""
        return self._activate("log_sigmoid", input, {"transport": transport}, timeout)

"""Calls whose options and tensors are 0, infinite, huge and tiny, beside ordinary logits: from a generator.

Logits are distinct and near each other, so that nothing but −∞ has a probability that a dtype rounds to 0: a factor
that is rounded to 0 would annihilate what it truly does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.cases import Asked
from tests.conformance.values import Array

INF = float("inf")
WEIGHTS = (0.0, 1.0, INF, 2.5)
UPSTREAM = (0.0, 1.0, INF, -1.0)
PROBABILITIES = (0.0, 1.0, 0.5, 0.25)
REDUCTIONS = ("mean", "sum", "none")
ROW_LOSSES = ("cross_entropy", "cross_entropy of kinds", "nll", "entropy")
ELEMENT_LOSSES = ("bce", "bce_with_logits", "kl_divergence", "self_information")
ACTIVATIONS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")
LOSSES = (*ROW_LOSSES, *ELEMENT_LOSSES, *ACTIVATIONS)
COUNTED = {"logits", "log_probabilities", "probabilities", "counts"}


class Extremes:
    """One call's tensors and options, drawn from `rng`. classes: of a row."""

    def __init__(self, rng: np.random.Generator, classes: int) -> None:
        self.rng = rng
        self.dtype: Any = (np.float32, np.float64)[rng.integers(2)]
        self.shape = (2, classes) if rng.random() < 0.7 else (2, classes, 2)
        self.rows = self.shape[:1] + self.shape[2:]
        self.options: dict[str, Any] = {}

    def among(self, values: tuple[float, ...], shape: tuple[int, ...]) -> Array:
        return np.asarray(self.rng.choice(values, shape)).astype(self.dtype)

    def maybe(self, option: str, value: Any, probability: float = 0.4) -> None:
        if self.rng.random() < probability:
            self.options[option] = value

    def logits(self, infinite: bool = True) -> Array:
        """Distinct in each row; −∞ among them."""
        x = self.rng.permuted(np.broadcast_to(np.linspace(-5, 5, self.shape[1]), (*self.rows, self.shape[1])), axis=-1)
        x = np.moveaxis(x, -1, 1)
        if infinite:
            x = np.where((self.rng.random(self.shape) < 0.3) & (x < x.max(1, keepdims=True)), -INF, x)
        return np.ascontiguousarray(x).astype(self.dtype)

    def counts(self) -> Array:
        """Distinct in each row but for zeros."""
        rows = np.broadcast_to(np.arange(1.0, self.shape[1] + 1), (*self.rows, self.shape[1]))
        k = np.moveaxis(self.rng.permuted(rows, axis=-1), -1, 1)
        k = np.where((self.rng.random(self.shape) < 0.3) & (k < k.max(1, keepdims=True)), 0.0, k)
        return np.ascontiguousarray(k).astype(self.dtype)

    def of_kind(self, kind: str) -> Array:
        if kind == "logits":
            return self.logits()
        if kind == "counts":
            return self.counts()
        return self.among(PROBABILITIES if kind == "probabilities" else (0.0, -1.0, -INF), self.shape)

    def labels(self) -> Array:
        return np.asarray(self.rng.integers(0, self.shape[1], self.rows))

    def shared(self, loss_shape: tuple[int, ...]) -> None:
        """Options of every loss."""
        reduction = str(self.rng.choice(REDUCTIONS))
        self.options["reduction"] = reduction
        self.maybe("grad_output", self.among(UPSTREAM, loss_shape if reduction == "none" else ()))
        if reduction == "mean":
            self.maybe("normalizer", float(self.rng.choice([1e-30, 1.0, 1e30])), 0.2)

    def classes(self) -> None:
        """Options of losses with classes."""
        self.maybe("weight", self.among(WEIGHTS, self.shape[1:2]))
        self.maybe("row_weight", self.among(WEIGHTS, self.rows))
        self.maybe("label_smoothing", float(self.rng.choice([0.0, 0.1, 1.0, 1e-50])))


def extreme(loss: str, rng: np.random.Generator, classes: int) -> Asked:
    """A call of `loss`, one of LOSSES."""
    drawn = Extremes(rng, classes)
    if loss in ROW_LOSSES:
        return _row_loss(loss, drawn)
    if loss in ELEMENT_LOSSES:
        return _element_loss(loss, drawn)
    infinite = UPSTREAM if "sigmoid" in loss else (0.0, 1.0, -2.0)  # g − Σ g·p is a difference in the other two
    return Asked(loss, (drawn.logits(),), {"grad": True, "grad_output": drawn.among(infinite, drawn.shape)})


def _row_loss(loss: str, drawn: Extremes) -> Asked:
    drawn.shared(drawn.rows)
    options = drawn.options
    if loss == "nll":
        drawn.maybe("weight", drawn.among(WEIGHTS, drawn.shape[1:2]))
        drawn.maybe("ignore_index", 0)
        return Asked("nll", (drawn.of_kind("log_probabilities"), drawn.labels()), options | {"grad": True})
    if loss == "entropy":
        kind = str(drawn.rng.choice(["logits", "probabilities", "counts"]))
        drawn.maybe("row_weight", drawn.among(WEIGHTS, drawn.rows))
        return Asked("entropy", (drawn.of_kind(kind),), options | {"kind": kind, "grad": True})
    drawn.classes()
    if loss == "cross_entropy":
        drawn.maybe("z_loss", float(drawn.rng.choice([0.0, 1e-4, 1e30, 1e-50])))
        drawn.maybe("softcap", float(drawn.rng.choice([1.0, 1e30, 3e38])))
        # Under a cap −∞ is as small as the cap, not 0 but for rounding.
        x = drawn.logits(infinite="softcap" not in options)
    else:
        options["kind"] = str(drawn.rng.choice(["log_probabilities", "probabilities", "counts"]))
        x = drawn.of_kind(options["kind"])
    if drawn.rng.random() < 0.5:
        drawn.maybe("ignore_index", 0)
        return Asked("cross_entropy", (x, drawn.labels()), options | {"grad": True})
    target = drawn.among(PROBABILITIES, drawn.shape)
    return Asked("cross_entropy", (x, target), options | {"grad": ("input", "target", "weight")})


def _element_loss(loss: str, drawn: Extremes) -> Asked:
    drawn.shared(drawn.shape)
    options = drawn.options
    if loss == "self_information":
        return Asked(loss, (drawn.among(PROBABILITIES, drawn.shape),), options | {"grad": True})
    if loss == "kl_divergence":
        kind, target_kind = (str(drawn.rng.choice(sorted(COUNTED))) for _ in range(2))
        of_target = target_kind not in ("counts", "logits")  # those of logits are differences of infinities
        options |= {"kind": kind, "target_kind": target_kind, "grad": ("input", "target") if of_target else ("input",)}
        return Asked(loss, (drawn.of_kind(kind), drawn.of_kind(target_kind)), options)
    drawn.maybe("weight", drawn.among(WEIGHTS, drawn.shape[-1:]))
    if loss == "bce_with_logits":
        drawn.maybe("pos_weight", drawn.among(WEIGHTS, drawn.shape[-1:]), 0.7)
    x = drawn.logits() if loss == "bce_with_logits" else drawn.among(PROBABILITIES, drawn.shape)
    return Asked(loss, (x, drawn.among(PROBABILITIES, drawn.shape)), options | {"grad": ("input", "target")})

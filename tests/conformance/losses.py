"""Every loss by every kind: the client's method, its tensors, its gradients, its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

from tests.conformance import options
from tests.conformance.options import Options
from tests.conformance.values import Array, Values

REDUCTIONS = ("mean", "sum", "none")
KINDS = ("logits", "log_probabilities", "probabilities", "counts")


@dataclass(frozen=True)
class Loss:
    """tensors: from values and the case's options. own: options that make it this loss.

    elementwise: it has one loss an element and no rows. primary: it is run in every dtype and layout.
    """

    method: str
    tensors: Callable[[Values, dict[str, Any]], tuple[Array, ...]]
    options: Options
    gradients: tuple[str, ...] = ("input", "target")
    own: dict[str, Any] = field(default_factory=dict)
    reductions: tuple[str, ...] = REDUCTIONS
    elementwise: bool = False
    primary: bool = True

    @property
    def activation(self) -> bool:
        return not self.reductions[0]


def by_index(kind: str, v: Values, own: dict[str, Any]) -> tuple[Array, ...]:
    y = v.index()
    return v.of_kind(kind), v.some_ignored(y, own["ignore_index"]) if "ignore_index" in own else y


def pair(kind: str, target_kind: str, v: Values, own: dict[str, Any]) -> tuple[Array, ...]:
    return v.of_kind(kind), v.of_kind(target_kind)


def cross_entropies() -> dict[str, Loss]:
    """Input kind × (indices, probabilities, counts)."""
    found: dict[str, Loss] = {}
    for kind in KINDS:
        logits = kind == "logits"
        name, own = ("cross_entropy", {}) if logits else (f"cross_entropy of {kind}", {"kind": kind})
        found[f"{name} index"] = Loss(
            "cross_entropy",
            partial(by_index, kind),
            options.INDEX | (options.SOFTMAX_INDEX if logits else {}),
            ("input",),
            own,
            primary=logits,
        )
        table = options.CROSS_ENTROPY | options.WEIGHT_GRADIENT | (options.SOFTMAX_DISTRIBUTION if logits else {})
        found[f"{name} distribution"] = Loss(
            "cross_entropy", partial(pair, kind, "probabilities"), table, own=own, primary=logits
        )
        without = {"all gradients", "softmax, all"}  # counts have no target gradient
        found[f"{name} counts"] = Loss(
            "cross_entropy",
            partial(pair, kind, "counts"),
            {option: make for option, make in table.items() if option not in without},
            ("input", "weight"),
            own | {"target_kind": "counts"},
            primary=False,
        )
    return found


def divergences() -> dict[str, Loss]:
    """Input kind × target kind."""
    return {
        f"kl_divergence of {target_kind} from {kind}": Loss(
            "kl_divergence",
            partial(pair, kind, target_kind),
            options.DIVERGENCE,
            ("input",) if target_kind == "counts" else ("input", "target"),
            {"kind": kind, "target_kind": target_kind},
            (*REDUCTIONS, "batchmean"),
            elementwise=not {kind, target_kind} & {"logits", "counts"},
            primary=kind == "log_probabilities" and target_kind.endswith("probabilities"),
        )
        for kind, target_kind in product(KINDS, KINDS)
    }


def activation(method: str, elementwise: bool) -> Loss:
    return Loss(
        method, lambda v, own: (v.logits(),), options.ACTIVATION, ("input",), reductions=("",), elementwise=elementwise
    )


def entropy(kind: str) -> Loss:
    return Loss("entropy", lambda v, own: (v.of_kind(kind),), options.ENTROPY, ("input",), {"kind": kind})


LOSSES: dict[str, Loss] = {
    **cross_entropies(),
    "bce": Loss("bce", lambda v, own: (v.probabilities(), v.probabilities()), options.BCE, elementwise=True),
    "bce_with_logits": Loss(
        "bce_with_logits",
        lambda v, own: (v.logits(), v.probabilities()),
        options.BCE_WITH_LOGITS,
        elementwise=True,
    ),
    "entropy of probabilities": entropy("probabilities"),
    "entropy of logits": entropy("logits"),
    "entropy of counts": entropy("counts"),
    **divergences(),
    "nll": Loss("nll", partial(by_index, "log_probabilities"), options.NLL, ("input",)),
    "self_information": Loss(
        "self_information",
        lambda v, own: (v.probabilities(),),
        options.DIVERGENCE,
        ("input",),
        elementwise=True,
    ),
    "softmax": activation("softmax", False),
    "log_softmax": activation("log_softmax", False),
    "sigmoid": activation("sigmoid", True),
    "log_sigmoid": activation("log_sigmoid", True),
}

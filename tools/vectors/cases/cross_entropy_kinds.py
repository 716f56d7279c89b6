"""CrossEntropy by distributions and counts, and of inputs that are not logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, Array, counts, f32, labels, logits, of_kind, positive, shares, signed

N, C = 4, 5
X, T, Y = logits(N, C), shares(N, C), labels(N, classes=C)
KINDS = ("log_probabilities", "probabilities", "counts")
ALL = ("input", "target", "weight")


def case(name: str, x: Array = X, t: Array = T, **options: Any) -> Case:
    return Case(name, "cross_entropy", (x, t), options)


CASES = [
    *(case(f"a distribution, {r}", reduction=r, grad=("input", "target")) for r in ("none", "mean", "sum")),
    *(
        case(f"distributions of {name}", t=shares(N, C, dtype=dtype), grad=("input", "target"))
        for name, dtype in FLOATS.items()
    ),
    case("a distribution, one row", logits(C), shares(C), grad=("input", "target")),
    case("a distribution, (N, C, d)", logits(2, 3, 4), shares(2, 3, 4), grad=("input", "target")),
    case("a distribution, class weight and its gradient", weight=positive(C), grad=ALL),
    case("a distribution, the gradient of an absent weight", grad="weight"),
    case("a distribution, a float16 weight's gradient", weight=positive(C, dtype=np.float16), grad="weight"),
    case(
        "a distribution, every option",
        weight=positive(C),
        row_weight=positive(N),
        label_smoothing=0.3,
        base=10.0,
        grad_output=signed(N),
        reduction="none",
        z_loss=0.5,
        softcap=2.5,
        outputs=("lse", "entropy", "argmax"),
        grad=ALL,
    ),
    case("a distribution with the default ignore_index in full", ignore_index=-100, label_smoothing=0.1),
    case("targets outside [0, 1]", t=f32([[2, -1, 0, 0, 0.5]] * N), grad=True),
    case("target_kind probabilities", target_kind="probabilities", grad=True),
    case("target_kind indices", t=Y, target_kind="indices", grad=True),
    case("target_kind counts", t=counts(N, C), target_kind="counts", grad=True),
    case(
        "target_kind counts of int32",
        t=counts(N, C, dtype=np.int32),
        target_kind="counts",
        label_smoothing=0.1,
        grad=True,
    ),
    case("one-hot, a distribution", t=np.eye(5, dtype=np.float32)[Y], grad=("input", "target")),
    *(case(f"{kind} by index", of_kind(kind, N, C), Y, kind=kind, grad=True) for kind in KINDS),
    *(case(f"{kind} by distribution", of_kind(kind, N, C), kind=kind, grad=ALL) for kind in KINDS),
    *(
        case(
            f"{kind} by counts, weights, smoothing",
            of_kind(kind, N, C),
            counts(N, C, seed=3),
            kind=kind,
            target_kind="counts",
            weight=positive(C),
            label_smoothing=0.1,
            base=2.0,
            reduction="sum",
            grad=True,
        )
        for kind in KINDS
    ),
    case("logits by name", kind="logits", grad=True),
    case("counts of int64 by index", counts(N, C, dtype=np.int64), Y, kind="counts"),
    case(
        "probabilities of 0 at a target: infinite",
        f32([[0, 1], [0.5, 0.5]]),
        np.array([0, 1]),
        kind="probabilities",
        reduction="none",
        grad=True,
    ),
    case(
        "zeros annihilate: a target of 0 where the logit is -inf",
        f32([[0, -np.inf, 1]]),
        f32([[0.5, 0, 0.5]]),
        grad=True,
    ),
]

"""KLDivergence: each kind of input with each of target."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, Array, counts, f32, log_probabilities, of_kind, shares, signed

U, P = log_probabilities(3, 4), shares(3, 4)
KINDS = ("log_probabilities", "logits", "probabilities", "counts")
BOTH = ("input", "target")


def case(name: str, u: Array = U, p: Array = P, **options: Any) -> Case:
    return Case(name, "kl_divergence", (u, p), options)


CASES = [
    case("every default"),
    *(case(f"reduction {r}", reduction=r, grad=BOTH) for r in ("none", "mean", "sum", "batchmean")),
    *(
        case(
            f"{kind}, target of {target_kind}",
            of_kind(kind, 3, 4),
            of_kind(target_kind, 3, 4, seed=4),
            kind=kind,
            target_kind=target_kind,
            reduction="batchmean",
            grad="input" if target_kind == "counts" else BOTH,
        )
        for kind in KINDS
        for target_kind in KINDS
    ),
    *(case(f"input of {name}", log_probabilities(3, 4, dtype=dtype), grad=BOTH) for name, dtype in FLOATS.items()),
    case(
        "counts of int32, target counts of uint8",
        counts(3, 4, dtype=np.int32),
        counts(3, 4, dtype=np.uint8, seed=1),
        kind="counts",
        target_kind="counts",
        reduction="sum",
    ),
    case("a scalar", log_probabilities(), f32(0.5), reduction="batchmean", grad=BOTH),
    case("one dimension, batchmean", log_probabilities(4), shares(4), reduction="batchmean", grad=BOTH),
    case("(N, C, d), logits", of_kind("logits", 2, 3, 2), shares(2, 3, 2), kind="logits", reduction="none", grad=BOTH),
    case("base 2 and normalizer", base=2.0, normalizer=5.0, grad=BOTH),
    case("normalizer of batchmean", reduction="batchmean", normalizer=5.0, grad=True),
    case("grad_output, one an element", grad_output=signed(3, 4), reduction="none", grad=BOTH),
    case("no items, empty_mean zero", log_probabilities(0, 3), shares(0, 3), empty_mean="zero"),
]

"""Entropy of probabilities, logits and counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, Array, counts, f32, logits, of_kind, positive, shares, signed

P = shares(4, 5)
KINDS = ("probabilities", "logits", "counts")


def case(name: str, p: Array = P, **options: Any) -> Case:
    return Case(name, "entropy", (p,), options)


CASES = [
    case("every default"),
    *(
        case(f"{kind}, {reduction}", of_kind(kind, 4, 5), kind=kind, reduction=reduction, grad=True)
        for kind in KINDS
        for reduction in ("none", "mean", "sum")
    ),
    *(case(f"probabilities of {name}", shares(4, 5, dtype=dtype), grad=True) for name, dtype in FLOATS.items()),
    case("counts of uint8", counts(4, 5, dtype=np.uint8), kind="counts"),
    case("one row, in bits", f32([0.5, 0.25, 0.25]), base=2.0, reduction="none"),
    case("(N, C, d)", shares(2, 3, 4), grad=True),
    *(case(f"dim {dim}", logits(2, 3, 4), kind="logits", dim=dim, reduction="none", grad=True) for dim in (0, 2, -1)),
    case("row weight, normalizer, base 2", row_weight=positive(4), normalizer=3.0, base=2.0, grad=True),
    case("row weight: the mean's denominator", row_weight=positive(4), grad=True),
    case("grad_output, one a row", grad_output=signed(4), reduction="none", grad=True),
    case("no rows", shares(0, 3), grad=True),
    case("no rows, empty_mean zero", shares(0, 3), empty_mean="zero"),
    case("uniform rows: ln C", f32([[0.25] * 4] * 2), reduction="none"),
]

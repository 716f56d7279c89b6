"""SelfInformation."""

from __future__ import annotations

from typing import Any

from vectors.case import Case
from vectors.values import FLOATS, Array, f32, probabilities, signed

P = probabilities(3, 4)


def case(name: str, p: Array = P, **options: Any) -> Case:
    return Case(name, "self_information", (p,), options)


CASES = [
    case("every default: reduction none"),
    *(case(f"reduction {r}", reduction=r, grad=True) for r in ("none", "mean", "sum")),
    *(case(f"input of {name}", probabilities(3, 4, dtype=dtype), grad=True) for name, dtype in FLOATS.items()),
    case("a scalar, in bits", f32(0.25), base=2.0, grad=True),
    case("normalizer and grad_output", reduction="mean", normalizer=2.0, grad_output=f32(-1), grad=True),
    case("grad_output, one an element", grad_output=signed(3, 4), grad=True),
    case("no items, sum", probabilities(0), reduction="sum"),
    case("no items, empty_mean zero", probabilities(0), reduction="mean", empty_mean="zero"),
]

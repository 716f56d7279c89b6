"""NLL."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, Array, f32, labels, log_probabilities, positive, signed

N, C = 4, 5
U, Y = log_probabilities(N, C), labels(N, classes=C)
IGNORED = np.array([0, -100, 2, -100])


def case(name: str, u: Array = U, y: Array = Y, **options: Any) -> Case:
    return Case(name, "nll", (u, y), options)


CASES = [
    case("every default"),
    *(case(f"reduction {r}", reduction=r, grad=True) for r in ("none", "mean", "sum")),
    *(case(f"input of {name}", log_probabilities(N, C, dtype=dtype), grad=True) for name, dtype in FLOATS.items()),
    case("one row, a scalar target", log_probabilities(C), labels(classes=C), grad=True),
    case("(N, C, d)", log_probabilities(2, 3, 4), labels(2, 4, classes=3, dtype=np.uint8), grad=True),
    case("class weight", weight=positive(C), grad=True),
    case("ignore_index absent: -100 is ignored", y=IGNORED, grad=True),
    case("ignore_index 0 is not absent", y=np.array([0, 1, 2, 0]), ignore_index=0, weight=positive(C), grad=True),
    case("only ignored rows, empty_mean zero", y=np.array([-100] * N), empty_mean="zero", grad=True),
    case("normalizer and grad_output", normalizer=3.0, grad_output=f32(2), grad=True),
    case("grad_output, one a row", grad_output=signed(N), reduction="none", grad=True),
    case("no rows", log_probabilities(0, 3), labels(0, classes=3), grad=True),
]

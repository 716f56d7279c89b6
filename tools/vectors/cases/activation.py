"""Activation: softmax, log-softmax, sigmoid, log-sigmoid. Their values stand in `loss`, in the input's dtype."""

from __future__ import annotations

from typing import Any

from vectors.case import Case
from vectors.request import FUNCTIONS
from vectors.values import FLOATS, Array, logits, signed

X = logits(3, 4)


def case(method: str, name: str, x: Array = X, **options: Any) -> Case:
    return Case(f"{method}: {name}", method, (x,), options)


CASES = [
    *(case(method, "values") for method in FUNCTIONS),
    *(case(method, "gradient of grad_output", grad_output=signed(3, 4), grad=True) for method in FUNCTIONS),
    *(
        case(method, f"of {name}", logits(3, 4, dtype=dtype), grad_output=signed(3, 4), grad=True)
        for method in ("softmax", "log_sigmoid")
        for name, dtype in FLOATS.items()
    ),
    *(case("softmax", f"dim {dim}", logits(2, 3, 4), dim=dim) for dim in (0, 2, -2)),
    case("log_softmax", "one row", logits(5)),
    case("softmax", "a scalar is a row of one class", logits()),
    case("sigmoid", "a scalar", logits(), grad=True),
    case("sigmoid", "rank 8", logits(2, 1, 1, 2, 1, 3, 1, 1)),
    case("softmax", "no rows", logits(0, 3), grad=True),
    case("log_softmax", "reduction none by name", reduction="none"),
]

"""BCE and BCEWithLogits."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, INTEGERS, Array, bits, f32, logits, positive, probabilities, signed

SHAPE = (3, 4)
P, X, T = probabilities(*SHAPE), logits(*SHAPE), probabilities(*SHAPE, seed=2)
BOTH = ("input", "target")


def of(method: str, x: Array, name: str, t: Array = T, **options: Any) -> Case:
    return Case(name, method, (x, t), options)


def shared(method: str, x: Array, like: Any) -> list[Case]:
    """What both losses have. like: makes inputs of a shape and dtype."""
    return [
        of(method, x, "every default"),
        *(of(method, x, f"reduction {r}", reduction=r, grad=BOTH) for r in ("none", "mean", "sum")),
        *(of(method, like(*SHAPE, dtype=dtype), f"input of {name}", grad=BOTH) for name, dtype in FLOATS.items()),
        *(
            of(method, x, f"target of {name}", bits(*SHAPE, dtype=dtype), grad=True)
            for name, dtype in {"bool": np.bool_, **INTEGERS}.items()
        ),
        of(method, x, "target of float8_e5m2", probabilities(*SHAPE, dtype=FLOATS["float8_e5m2"]), grad=BOTH),
        of(method, like(), "a scalar", probabilities(), grad=BOTH),
        of(method, like(5), "one dimension", probabilities(5), grad=BOTH),
        of(method, like(2, 1, 1, 2, 1, 3, 1, 1), "rank 8", probabilities(2, 1, 1, 2, 1, 3, 1, 1), grad=BOTH),
        of(method, like(0, 3), "no items", probabilities(0, 3), grad=True),
        of(method, like(0, 3), "no items, empty_mean zero", probabilities(0, 3), empty_mean="zero"),
        of(method, x, "weight of the input's shape", weight=positive(*SHAPE), grad=BOTH),
        of(method, x, "weight of the last dimension", weight=positive(4), grad=True),
        of(method, x, "weight of the first dimension", weight=positive(3, 1), reduction="none", grad=True),
        of(method, x, "one weight", weight=f32(2.5), grad=True),
        of(method, x, "normalizer and grad_output", normalizer=7.5, grad_output=f32(-2), grad=BOTH),
        of(method, x, "grad_output, one an element", grad_output=signed(*SHAPE), reduction="none", grad=BOTH),
        of(method, like(3, 4096, dtype=np.float16), "items of 4096 in several blocks", bits(3, 4096), reduction="sum"),
    ]


CASES = [
    *shared("bce", P, probabilities),
    *shared("bce_with_logits", X, logits),
    of("bce_with_logits", X, "pos_weight of the last dimension", pos_weight=positive(4), grad=BOTH),
    of("bce_with_logits", X, "pos_weight of the input's shape", pos_weight=positive(*SHAPE), grad=BOTH),
    of(
        "bce_with_logits",
        X,
        "weight and pos_weight of float64",
        weight=positive(3, 1, dtype=np.float64),
        pos_weight=positive(4, dtype=np.float64),
        grad=BOTH,
    ),
]

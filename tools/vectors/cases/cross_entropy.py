"""CrossEntropy of logits by class indices: every option, dtype and layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import FLOATS, INTEGERS, Array, f32, labels, logits, positive, signed

N, C = 4, 5
X = logits(N, C)
Y = labels(N, classes=C)
IGNORED = np.array([0, -100, 2, -100])
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "one row, a scalar target": ((5,), ()),
    "one row, a target of length 1": ((5,), (1,)),
    "(N, C, d)": ((2, 3, 4), (2, 4)),
    "(N, C, d1, d2)": ((2, 3, 2, 2), (2, 2, 2)),
    "rank 8": ((2, 3, 1, 2, 1, 1, 1, 2), (2, 1, 2, 1, 1, 1, 2)),
    "one class": ((3, 1), (3,)),
    "two classes": ((5, 2), (5,)),
    "17 classes": ((2, 17), (2,)),
    "100 classes": ((2, 100), (2,)),
}
NOTHING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "no rows": ((0, 3), (0,)),
    "no inner positions": ((2, 3, 0), (2, 0)),
}


def case(name: str, x: Array = X, y: Array = Y, **options: Any) -> Case:
    return Case(name, "cross_entropy", (x, y), options)


CASES = [
    case("every default"),
    *(case(f"reduction {reduction}", reduction=reduction, grad=True) for reduction in ("none", "mean", "sum")),
    *(
        case(f"layout {name}", logits(*shape), labels(*target, classes=shape[min(1, len(shape) - 1)]), grad=True)
        for name, (shape, target) in LAYOUTS.items()
    ),
    *(
        case(f"{name}, {reduction}", logits(*shape), labels(*target, classes=3), reduction=reduction, grad=True)
        for name, (shape, target) in NOTHING.items()
        for reduction in ("mean", "sum", "none")
    ),
    case("no rows, empty_mean zero", logits(0, 3), labels(0, classes=3), empty_mean="zero"),
    *(case(f"logits of {name}", logits(N, C, dtype=dtype), grad=True) for name, dtype in FLOATS.items()),
    *(
        case(f"logits of {name}, reduction none", logits(N, C, dtype=dtype), reduction="none", grad=True)
        for name, dtype in FLOATS.items()
    ),
    *(case(f"classes of {name}", y=labels(N, classes=C, dtype=dtype), grad=True) for name, dtype in INTEGERS.items()),
    case(
        "float16 logits, float64 weight: a loss of float64",
        logits(N, C, dtype=np.float16),
        weight=positive(C, dtype=np.float64),
        grad=True,
    ),
    case(
        "bfloat16 logits, float16 row weight",
        logits(N, C, dtype=FLOATS["bfloat16"]),
        row_weight=positive(N, dtype=np.float16),
        grad=True,
    ),
    case("class weight", weight=positive(C), grad=True),
    case("class weight, reduction none", weight=positive(C), reduction="none", grad=True),
    case("class weight of zeros: NaN", weight=f32([0] * C), grad=True),
    case("a negative class weight", weight=f32([1, -0.5, 2, 1, 0]), reduction="sum", grad=True),
    case("row weight", row_weight=positive(N), grad=True),
    case(
        "row weight and class weight, (N, C, d)",
        logits(2, 3, 4),
        labels(2, 4, classes=3),
        weight=positive(3),
        row_weight=positive(2, 4),
        grad=True,
    ),
    case("ignore_index absent: -100 is ignored", y=IGNORED, grad=True),
    case("ignore_index absent: 0 is a class", y=np.array([0, 0, 1, -100]), reduction="none", grad=True),
    case("ignore_index 0 is not absent", y=np.array([0, 1, 2, 0]), ignore_index=0, grad=True),
    case("ignore_index 2, with a class weight", ignore_index=2, weight=positive(C), grad=True),
    case("ignore_index of a far number", y=np.array([0, 2**40, 1, 3]), ignore_index=2**40, grad=True),
    case("only ignored rows: NaN", y=np.array([-100] * N), grad=True),
    case("only ignored rows, empty_mean nan", y=np.array([-100] * N), empty_mean="nan"),
    case("only ignored rows, empty_mean zero", y=np.array([-100] * N), empty_mean="zero", grad=True),
    case("only ignored rows, sum", y=np.array([-100] * N), reduction="sum", grad=True),
    *(case(f"label_smoothing {e}", label_smoothing=e, grad=True) for e in (0.1, 1.0)),
    case("label_smoothing with class weights", label_smoothing=0.3, weight=positive(C), grad=True),
    case(
        "label_smoothing with class weights and ignored rows",
        y=IGNORED,
        label_smoothing=0.1,
        weight=positive(C),
        reduction="sum",
        grad=True,
    ),
    *(case(f"base {base:g}", base=base, grad=True) for base in (2.0, 10.0, 0.5)),
    case("z_loss", z_loss=0.125, grad=True),
    case("z_loss with class weights and ignored rows", y=IGNORED, z_loss=0.5, weight=positive(C), grad=True),
    case("softcap", softcap=4.0, grad=True),
    case("softcap, reduction none", softcap=2.5, reduction="none", grad=True),
    case("z_loss and softcap", z_loss=0.5, softcap=2.5, grad=True),
    case("normalizer", normalizer=7.5, grad=True),
    case("normalizer, class weights and ignored rows", y=IGNORED, weight=positive(C), normalizer=0.75, grad=True),
    case("grad_output, a scalar", grad_output=f32(-2.5), grad=True),
    case("grad_output, one a row", grad_output=signed(N), reduction="none", grad=True),
    case(
        "grad_output of float64: a loss of float64",
        grad_output=np.array([0.5, 1, -2, 0]),
        reduction="none",
        grad=True,
    ),
    *(case(f"output {name}", outputs=name) for name in ("lse", "entropy", "argmax", "correct")),
    case(
        "every output, after softcap",
        y=IGNORED,
        outputs=("lse", "entropy", "argmax", "correct"),
        softcap=3.0,
        grad=True,
    ),
    case(
        "every output, (N, C, d)",
        logits(2, 3, 4),
        labels(2, 4, classes=3),
        reduction="none",
        outputs=("lse", "entropy", "argmax", "correct"),
    ),
    case(
        "argmax: the first of equals, -1 with NaN",
        f32([[1, 3, 3], [2, 2, 2], [0, float("nan"), 1]]),
        np.array([1, 0, -100]),
        outputs=("argmax", "correct"),
    ),
    case(
        "every option at once",
        y=np.array([0, 1, 2, 1]),
        weight=positive(C),
        row_weight=positive(N),
        ignore_index=0,
        label_smoothing=0.2,
        base=2.0,
        z_loss=0.25,
        softcap=5.0,
        normalizer=3.0,
        grad_output=f32(1.5),
        outputs=("lse", "entropy", "argmax", "correct"),
        grad=True,
    ),
    case("10 rows in several blocks", logits(10, 6), labels(10, classes=6, seed=1), grad=True),
    case(
        "10 rows in several blocks, reduction none",
        logits(10, 6),
        labels(10, classes=6, seed=1),
        reduction="none",
        outputs=("lse", "argmax"),
        grad=True,
    ),
]

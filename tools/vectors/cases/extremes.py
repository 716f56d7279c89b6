"""Where the usual formulas lose every digit: confident rows, offsets, infinities, NaN. Entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectors.case import Case
from vectors.values import Array, f32

INF, NAN = float("inf"), float("nan")
GAPS = f32([[gap, 0, 0] for gap in (5, 15, 17, 30, 40, -5, -17, -40)])
OFFSET = f32([[0, 1, 2, 9], [3, 3, 3, 3], [12, 0, 1, 0]])


def case(name: str, method: str, *tensors: Array, **options: Any) -> Case:
    return Case(name, method, tensors, {"reduction": "none"} | options, each=True)


def index(name: str, x: Array, y: list[int], **options: Any) -> Case:
    return case(name, "cross_entropy", x, np.array(y), grad=True, **options)


CASES = [
    index("confident rows, right", GAPS, [0] * 8),
    index("confident rows, wrong", GAPS, [2] * 8),
    case(
        "confident rows by a one-hot distribution",
        "cross_entropy",
        GAPS,
        f32([[1, 0, 0]] * 8),
        grad=("input", "target"),
    ),
    case("confident rows", "entropy", GAPS, kind="logits", grad=True),
    *(index(f"an offset of {offset:g}", OFFSET + np.float32(offset), [3, 0, 0]) for offset in (1e7, -1e7)),
    case("an offset of 1e7", "entropy", OFFSET + np.float32(1e7), kind="logits", grad=True),
    index("±1e4", f32([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]]), [0, 2]),
    index("±1e4 at another class", f32([[1e4, -1e4, 0], [0, -1e4, 1e4]]), [1, 0]),
    index("±3e38", f32([[3e38, -3e38, 0]]), [0]),
    index("-inf beside the target: probability 0", f32([[0, -INF, 1], [-INF, -INF, 2]]), [0, 2]),
    index("-inf at the target: infinite", f32([[0, -INF, 1], [-INF, 0, 2]]), [1, 0]),
    index("a row of -inf: NaN", f32([[-INF, -INF], [0, 1]]), [0, 1]),
    index("inf: NaN in its own row", f32([[1, 0], [INF, 0], [0, 1]]), [0, 0, 0]),
    index("NaN in its own row", f32([[1, 0], [0, NAN], [0, 1]]), [0, 0, 0]),
    index("ignored rows are 0 whatever they hold", f32([[NAN, 1], [0, 0], [INF, -INF]]), [-100, 0, -100]),
    Case(
        "an ignored row of NaN leaves the mean alone",
        "cross_entropy",
        (f32([[NAN, 1], [0, 0]]), np.array([-100, 0])),
        {"grad": True},
        each=True,
    ),
    index("zeros annihilate: weights", f32([[0, -INF, 1]]), [1], weight=f32([1, 0, 1])),
    index("zeros annihilate: smoothing", f32([[0, -INF, 1]]), [2], weight=f32([1, 0, 1]), label_smoothing=0.5),
    case("one-hot logits: exactly 0", "entropy", f32([[0, -INF], [-INF, 3]]), kind="logits"),
    case("one-hot probabilities: exactly 0", "entropy", f32([[0, 1, 0], [1, 0, 0]])),
    case("zeros among probabilities and their gradient", "entropy", f32([[0.5, 0, 0.5]]), grad=True),
    case("zeros among counts", "entropy", f32([[0, 7, 0], [3, 0, 5]]), kind="counts"),
    case("NaN in its own row", "entropy", f32([[1, 0], [0, NAN]]), kind="logits", grad=True),
    case(
        "0 and 1: the clamps",
        "bce",
        f32([0, 0, 0, 1, 1, 1, 1e-30, 0.5]),
        f32([0, 1, 0.5, 0, 1, 0.5, 1, 0.5]),
        grad=("input", "target"),
    ),
    case(
        "confident elements, right",
        "bce_with_logits",
        f32([[5, 17, 40], [-5, -17, -40]]),
        f32([[1] * 3, [0] * 3]),
        grad=("input", "target"),
    ),
    case(
        "confident elements, wrong",
        "bce_with_logits",
        f32([[5, 17, 40], [-5, -17, -40]]),
        f32([[0] * 3, [1] * 3]),
        grad=("input", "target"),
    ),
    case("±1e4", "bce_with_logits", f32([1e4, -1e4, 1e4, -1e4]), f32([1, 0, 0, 1]), grad=True),
    case("±inf and NaN", "bce_with_logits", f32([INF, INF, -INF, -INF, NAN]), f32([1, 0, 1, 0, 0]), grad=True),
    case(
        "zeros annihilate: pos_weight 0 at -inf",
        "bce_with_logits",
        f32([-INF, 2]),
        f32([1, 1]),
        pos_weight=f32(0),
        grad=True,
    ),
    case(
        "±1e4, and large gaps", "log_softmax", f32([[1e4, -1e4, 0], [40, 0, 0], [-1e4, -1e4, -1e4]]), reduction="none"
    ),
    case("-inf, inf and NaN", "softmax", f32([[0, -INF, 1], [0, INF, 1], [NAN, 0, 1]]), reduction="none"),
    case("±inf and NaN", "sigmoid", f32([INF, -INF, NAN, 40, -40, 0]), reduction="none", grad=True),
    case("±1e4 and ±40", "log_sigmoid", f32([1e4, -1e4, 40, -40]), reduction="none", grad=True),
    case("0, 1, infinite", "self_information", f32([0, 1, 0.5]), grad=True),
    case(
        "p 0 annihilates, q 0 is infinite",
        "kl_divergence",
        f32([[0, 0.5, 0.5], [0, 0.5, 0.5]]),
        f32([[0, 0.5, 0.5], [0.5, 0.5, 0]]),
        kind="probabilities",
    ),
    case(
        "log targets of -inf",
        "kl_divergence",
        f32([[-1, -2]]),
        f32([[-INF, 0]]),
        target_kind="log_probabilities",
        grad=True,
    ),
    case(
        "-inf at the class: infinite; elsewhere: nothing",
        "nll",
        f32([[-INF, -1], [-INF, -1]]),
        np.array([0, 1]),
        grad=True,
    ),
]

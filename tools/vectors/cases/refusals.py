"""Wrong values of any loss, and wrong requests of all but CrossEntropy: each reason and field."""

from __future__ import annotations

import numpy as np

from vectors.cases.refusal import changed, refused, value
from vectors.request import message
from vectors.values import (
    bits,
    counts,
    f32,
    labels,
    log_probabilities,
    logits,
    positive,
    probabilities,
    shares,
)

NAN, INF = float("nan"), float("inf")
X, Y, T = logits(4, 5), labels(4, classes=5), shares(4, 5)
P, Q, U = probabilities(3, 4), probabilities(3, 4, seed=2), log_probabilities(4, 5)

VALUES = [
    value("a class of C", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, np.array([0, 5, 0, 0])),
    value("a negative class", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, np.array([0, 0, 0, -1])),
    value(
        "-100 with another ignore_index",
        "CLASS_OUT_OF_RANGE",
        "target",
        "cross_entropy",
        X,
        np.array([-100, 0, 0, 0]),
        ignore_index=0,
    ),
    value(
        "a class of C, uint8", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, np.array([0, 1, 2, 200], np.uint8)
    ),
    value("a class out of range", "CLASS_OUT_OF_RANGE", "target", "nll", U, np.array([0, 1, 2, 9])),
    value(
        "a negative count",
        "NEGATIVE_COUNT",
        "input",
        "cross_entropy",
        f32([[1, 2], [3, -1]]),
        np.array([0, 0]),
        kind="counts",
    ),
    value(
        "a negative count of a target",
        "NEGATIVE_COUNT",
        "target",
        "cross_entropy",
        X[:2, :2],
        f32([[1, 2], [-3, 1]]),
        target_kind="counts",
    ),
    value(
        "counts of zeros",
        "EMPTY_COUNTS",
        "input",
        "cross_entropy",
        f32([[1, 2], [0, 0]]),
        np.array([0, 0]),
        kind="counts",
    ),
    value(
        "target counts of zeros",
        "EMPTY_COUNTS",
        "target",
        "cross_entropy",
        X[:2, :2],
        f32([[1, 2], [0, 0]]),
        target_kind="counts",
    ),
    value("a negative count", "NEGATIVE_COUNT", "input", "entropy", f32([[1, 2], [3, -1]]), kind="counts"),
    value("counts of zeros", "EMPTY_COUNTS", "input", "entropy", f32([[1, 2], [0, 0]]), kind="counts"),
    value(
        "a negative count", "NEGATIVE_COUNT", "input", "kl_divergence", f32([[1, -2]]), f32([[0.5, 0.5]]), kind="counts"
    ),
    value(
        "target counts of zeros",
        "EMPTY_COUNTS",
        "target",
        "kl_divergence",
        f32([[1, 2]]),
        f32([[0, 0]]),
        target_kind="counts",
    ),
    *(
        value(f"an input of {p:g}", "NOT_A_PROBABILITY", "input", "bce", f32([[0.5, p]]), f32([[0, 1]]))
        for p in (1.5, -0.25, NAN)
    ),
    value("a target of 2", "NOT_A_PROBABILITY", "target", "bce", f32([[0.5, 0.5]]), f32([[0, 2]])),
    value("an integer target of 2", "NOT_A_PROBABILITY", "target", "bce", f32([[0.5, 0.5]]), np.array([[0, 2]])),
]

OTHERS = [
    refused("an input of int8", "DTYPE_NOT_TAKEN", "input", "entropy", counts(4, 5, dtype=np.int8)),
    refused("a scalar input", "INVALID_SHAPE", "input", "entropy", f32(1)),
    *(refused(f"dim {dim} of two dimensions", "OPTION_OUT_OF_RANGE", "dim", "entropy", T, dim=dim) for dim in (2, -3)),
    refused("kind log_probabilities", "OPTION_NOT_TAKEN", "kind", "entropy", T, kind="log_probabilities"),
    refused("the target's gradient", "GRADIENT_NOT_TAKEN", "gradients", "entropy", T, grad="target"),
    refused("a row_weight of another length", "SHAPE_MISMATCH", "row_weight", "entropy", T, row_weight=positive(5)),
    refused("base 1", "OPTION_OUT_OF_RANGE", "base", "entropy", T, base=1.0),
    refused("a target of another shape", "SHAPE_MISMATCH", "target", "bce", P, probabilities(4)),
    refused("a weight that does not broadcast", "SHAPE_MISMATCH", "weight", "bce", P, Q, weight=positive(3)),
    refused("a weight that would widen the input", "SHAPE_MISMATCH", "weight", "bce", P, Q, weight=positive(2, 3, 4)),
    refused("the gradient of a bool target", "GRADIENT_NOT_TAKEN", "gradients", "bce", P, bits(3, 4), grad="target"),
    refused("the weight's gradient", "GRADIENT_NOT_TAKEN", "gradients", "bce", P, Q, grad="weight"),
    refused("an input of bool", "DTYPE_NOT_TAKEN", "input", "bce", bits(3, 4), Q),
    changed("no target", "MISSING_FIELD", "target", message("bce_with_logits", P)),
    refused(
        "a pos_weight that does not broadcast",
        "SHAPE_MISMATCH",
        "pos_weight",
        "bce_with_logits",
        P,
        Q,
        pos_weight=positive(5),
    ),
    refused(
        "a pos_weight of int32",
        "DTYPE_NOT_TAKEN",
        "pos_weight",
        "bce_with_logits",
        P,
        Q,
        pos_weight=np.ones(4, np.int32),
    ),
    refused(
        "a grad_output of another shape",
        "SHAPE_MISMATCH",
        "grad_output",
        "bce_with_logits",
        P,
        Q,
        reduction="none",
        grad_output=positive(4),
    ),
    refused("reduction batchmean", "OPTION_NOT_TAKEN", "reduction", "bce_with_logits", P, Q, reduction="batchmean"),
    value(
        "a bool of 2",
        "INVALID_BOOL",
        "target",
        "bce_with_logits",
        f32([[0.5, 0.5]]),
        np.array([[1, 2]], np.uint8).view(np.bool_),
    ),
    refused("a target of another shape", "SHAPE_MISMATCH", "target", "kl_divergence", U, shares(5)),
    refused("an input of int32", "DTYPE_NOT_TAKEN", "input", "kl_divergence", counts(4, 5, dtype=np.int32), T),
    refused("a bool target", "DTYPE_NOT_TAKEN", "target", "kl_divergence", U, bits(4, 5)),
    refused(
        "the gradient of target counts",
        "GRADIENT_NOT_TAKEN",
        "gradients",
        "kl_divergence",
        U,
        counts(4, 5),
        target_kind="counts",
        grad="target",
    ),
    refused("target_kind indices", "OPTION_NOT_TAKEN", "target_kind", "kl_divergence", U, T, target_kind="indices"),
    refused(
        "normalizer with reduction none",
        "OPTION_NOT_TAKEN",
        "normalizer",
        "kl_divergence",
        U,
        T,
        reduction="none",
        normalizer=2.0,
    ),
    refused("a scalar of logits", "INVALID_SHAPE", "input", "kl_divergence", f32(1), f32(1), kind="logits"),
    refused("classes of float32", "DTYPE_NOT_TAKEN", "target", "nll", U, f32([0, 1, 2, 3])),
    refused("a weight of another length", "SHAPE_MISMATCH", "weight", "nll", U, Y, weight=positive(4)),
    refused("the target's gradient", "GRADIENT_NOT_TAKEN", "gradients", "nll", U, Y, grad="target"),
    refused("an input of uint8", "DTYPE_NOT_TAKEN", "input", "self_information", counts(4, dtype=np.uint8)),
    refused("base 0", "OPTION_OUT_OF_RANGE", "base", "self_information", P, base=0.0),
    refused(
        "normalizer with the default reduction, none",
        "OPTION_NOT_TAKEN",
        "normalizer",
        "self_information",
        P,
        normalizer=2.0,
    ),
    refused("a reduction", "OPTION_NOT_TAKEN", "reduction", "softmax", X, reduction="mean"),
    refused("dim of a sigmoid", "OPTION_NOT_TAKEN", "dim", "sigmoid", X, dim=1),
    refused("dim 5", "OPTION_OUT_OF_RANGE", "dim", "softmax", X, dim=5),
    refused("the weight's gradient", "GRADIENT_NOT_TAKEN", "gradients", "log_softmax", X, grad="weight"),
    changed("an unknown function", "UNKNOWN_ENUM", "function", message("softmax", X, function=99)),
]
REFUSALS = [*VALUES, *OTHERS]

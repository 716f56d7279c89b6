"""What one loss refuses and others take: kinds, by-products, gradients, reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossd_server.errors import InvalidRequest
from tests.losses.checked import check, is_plain
from tests.losses.messages import tensor, zeros
from tests.losses.requests import (
    BOOL,
    F64,
    I64,
    activation,
    bce,
    cross_entropy,
    distribution,
    entropy,
    kl_divergence,
    nll,
    rpc,
    self_information,
)

NAN, INF = float("nan"), float("inf")
LOGITS, LOG_PROBABILITIES, PROBABILITIES, COUNTS, INDICES = 1, 2, 3, 4, 5
LSE, CORRECT = 1, 4
NOT_TAKEN, RANGE, DTYPE, SHAPE = "OPTION_NOT_TAKEN", "OPTION_OUT_OF_RANGE", "DTYPE_NOT_TAKEN", "SHAPE_MISMATCH"
NO_GRADIENT = "GRADIENT_NOT_TAKEN"
ONES = np.ones((8, 16))
NEGATIVE, EMPTY = ONES.copy(), ONES.copy()
NEGATIVE[2, 3] = -4
EMPTY[5] = 0

ROW_WEIGHTS = [
    (make(row_weight=weight), "row_weight", reason, sentence)
    for make in (cross_entropy, entropy)
    for weight, reason, sentence in (
        (zeros(16), SHAPE, "row_weight has shape [16], but must have shape [8]: one weight for each row"),
        (zeros(8, 16), SHAPE, "row_weight has shape [8, 16]"),
        (zeros(8, dtype=I64), DTYPE, "row_weight has dtype int64, but must have a float dtype"),
    )
]
BY_PRODUCTS = [
    (cross_entropy(z_loss=-1.0), "z_loss", RANGE, "z_loss = -1.0 is outside [0, inf)"),
    (cross_entropy(z_loss=NAN), "z_loss", RANGE, "z_loss = nan is outside [0, inf)"),
    (cross_entropy(softcap=0.0), "softcap", RANGE, "softcap = 0.0 is outside (0, inf)"),
    (cross_entropy(softcap=INF), "softcap", RANGE, "softcap = inf is outside (0, inf)"),
    (cross_entropy(softcap=-30.0), "softcap", RANGE, "softcap = -30.0 is outside (0, inf)"),
    (cross_entropy(outputs=[0]), "outputs", "UNKNOWN_ENUM", "outputs[0] = 0 is not one of lse, "),
    (cross_entropy(outputs=[1, 9]), "outputs", "UNKNOWN_ENUM", "outputs[1] = 9 is not one of lse, "),
    (cross_entropy(outputs=[LSE] * 9), "outputs", RANGE, "outputs has 9 entries, at most 8 are taken"),
    (distribution(outputs=[CORRECT]), "outputs", NOT_TAKEN, "outputs include correct, but a distribution has no"),
    *(
        (cross_entropy(kind=kind, **option), *option, NOT_TAKEN, f"is given with kind {name}, but it needs kind logits")
        for kind, name in ((2, "log_probabilities"), (3, "probabilities"), (4, "counts"))
        for option in ({"z_loss": 0.1}, {"softcap": 30.0}, {"outputs": [LSE]})
    ),
]
KINDS = [
    (cross_entropy(input=zeros(8, 16, dtype=I64), kind=3), "input", DTYPE, "integer dtype with kind counts"),
    (cross_entropy(input=zeros(8, 16, dtype=BOOL), kind=4), "input", DTYPE, "input has dtype bool"),
    (cross_entropy(target_kind=2), "target_kind", NOT_TAKEN, "target_kind = log_probabilities is not taken by"),
    (
        cross_entropy(target_kind=COUNTS),
        "target",
        SHAPE,
        "target has shape [8], but must have shape [8, 16]: that of the input",
    ),
    (distribution(target=zeros(8, 16, dtype=I64)), "target", SHAPE, "but must have shape [8]: one class index"),
    (distribution(target=zeros(8, 16, dtype=BOOL), target_kind=4), "target", DTYPE, "a float or integer dtype with"),
    (distribution(target_kind=COUNTS, ignore_index=3), "ignore_index", NOT_TAKEN, "ignore_index = 3 is not taken"),
    (kl_divergence(kind=INDICES), "kind", NOT_TAKEN, "kind = indices is not taken by KLDivergence"),
    (kl_divergence(target_kind=INDICES), "target_kind", NOT_TAKEN, "target_kind = indices is not taken by KLDi"),
    (kl_divergence(kind=9), "kind", "UNKNOWN_ENUM", "kind = 9 is not one of logits, "),
    (kl_divergence(input=zeros(8, 16, dtype=I64)), "input", DTYPE, "integer dtype with kind counts"),
    (kl_divergence(target=zeros(8, 16, dtype=I64)), "target", DTYPE, "integer dtype with target_kind counts"),
    (kl_divergence(target=zeros(16)), "target", SHAPE, "target has shape [16], but must have shape [8, 16]"),
    (kl_divergence(target=zeros(1, 16)), "target", SHAPE, "target has shape [1, 16], but must have shape [8, 16]"),
    (
        kl_divergence(input=zeros(), target=zeros(), kind=LOGITS),
        "input",
        "INVALID_SHAPE",
        "a class dimension is needed",
    ),
    (
        nll(target=zeros(8)),
        "target",
        DTYPE,
        "target has dtype float32, but must have an integer dtype for class indices",
    ),
    (
        nll(target=zeros(8, 16, dtype=I64)),
        "target",
        SHAPE,
        "target has shape [8, 16], but must have shape [8]: one class index",
    ),
    (nll(input=zeros(8, 16, dtype=I64)), "input", DTYPE, "input has dtype int64, but must have a float dtype"),
    (nll(input=zeros()), "input", "INVALID_SHAPE", "input has shape [], but a class dimension is needed"),
    (
        nll(weight=zeros(8)),
        "weight",
        SHAPE,
        "weight has shape [8], but must have shape [16]: one weight for each of 16",
    ),
    (self_information(input=zeros(8, dtype=BOOL)), "input", DTYPE, "input has dtype bool"),
    (
        self_information(grad_output=zeros()),
        "grad_output",
        SHAPE,
        "must have shape [8, 16]: that of the loss with reduction none",
    ),
    (activation(input=zeros(8, dtype=I64)), "input", DTYPE, "input has dtype int64"),
    (
        activation(grad_output=zeros(8)),
        "grad_output",
        SHAPE,
        "must have shape [8, 16]: that of the loss with reduction none",
    ),
]
OPTIONS = [
    (self_information(base=1.0), "base", RANGE, "base = 1.0 is outside (0, inf) without 1"),
    (self_information(normalizer=2.0), "normalizer", NOT_TAKEN, "normalizer is given with reduction none"),
    (self_information(reduction=4), "reduction", NOT_TAKEN, "reduction = batchmean is not taken by SelfInf"),
    (nll(reduction=4), "reduction", NOT_TAKEN, "reduction = batchmean is not taken by NLL"),
    (kl_divergence(normalizer=0.0, reduction=4), "normalizer", RANGE, "normalizer = 0.0 is outside (0, inf)"),
    (
        kl_divergence(grad_output=zeros(8), reduction=4),
        "grad_output",
        SHAPE,
        "but must have shape []: that of the loss with reduction batchmean",
    ),
    *(
        (activation(reduction=number), "reduction", NOT_TAKEN, f"reduction = {name} is not taken by Activation")
        for number, name in ((2, "mean"), (3, "sum"), (4, "batchmean"))
    ),
    (activation(function=9), "function", "UNKNOWN_ENUM", "function = 9 is not one of softmax, "),
    (activation(dim=2), "dim", RANGE, "dim = 2 is outside [-2, 1] for input of shape [8, 16]"),
    (activation(function=3, dim=1), "dim", NOT_TAKEN, "dim = 1 is not taken by sigmoid, which has no class dimension"),
    (activation(function=4, dim=0), "dim", NOT_TAKEN, "dim = 0 is not taken by log_sigmoid"),
]
GRADIENTS = (
    [
        (make(gradients=[number]), "gradients", NO_GRADIENT, sentence)
        for make, number, sentence in (
            (nll, 2, "the gradient of target is asked for, but class indices have none"),
            (nll, 3, "the gradient of weight is asked for, but the class weight of NLL has none"),
            (kl_divergence, 3, "the gradient of weight is asked for, but KLDivergence has no weight"),
            (self_information, 2, "the gradient of target is asked for, but SelfInformation has no target"),
            (self_information, 3, "the gradient of weight is asked for, but SelfInformation has no weight"),
            (activation, 2, "the gradient of target is asked for, but Activation has no target"),
            (activation, 3, "the gradient of weight is asked for, but Activation has no weight"),
            (bce, 3, "the gradient of weight is asked for, but the weight of BCE has none"),
            (entropy, 3, "the gradient of weight is asked for, but Entropy has no class weight"),
        )
    ]
    + [
        (
            make(target=tensor(ONES), target_kind=COUNTS, gradients=[2]),
            "gradients",
            NO_GRADIENT,
            "the gradient of target is asked for, but a target of counts has none",
        )
        for make in (cross_entropy, kl_divergence)
    ]
    + [
        (
            make(input=tensor(ONES, "int64"), kind=COUNTS, gradients=[1]),
            "gradients",
            NO_GRADIENT,
            "the gradient of input is asked for, but counts of an integer dtype have none",
        )
        for make in (cross_entropy, kl_divergence)
    ]
)
TARGET_COUNTS = [
    (make(target=tensor(counts, dtype), target_kind=COUNTS), "target", reason, sentence)
    for make in (cross_entropy, kl_divergence)
    for counts, dtype, reason, sentence in (
        (NEGATIVE, "int32", "NEGATIVE_COUNT", "target[2, 3] = -4 is outside [0, inf)"),
        (NEGATIVE, "float64", "NEGATIVE_COUNT", "target[2, 3] = -4.0 is outside [0, inf)"),
        (NEGATIVE * [[NAN]], "float32", "NEGATIVE_COUNT", "target[0, 0] = nan is outside [0, inf)"),
        (EMPTY, "uint8", "EMPTY_COUNTS", "the counts of target's row[5] sum to 0: at least one must be above 0"),
    )
] + [
    (
        kl_divergence(input=zeros(2, 0, 3, dtype=F64), target=zeros(2, 0, 3), target_kind=COUNTS),
        "target",
        "EMPTY_COUNTS",
        "the counts of target's row[0, 0] sum to 0",
    ),
]


@pytest.mark.parametrize(
    "request_, field, reason, sentence",
    [*ROW_WEIGHTS, *BY_PRODUCTS, *KINDS, *OPTIONS, *GRADIENTS, *TARGET_COUNTS],
)
def test_what_a_loss_does_not_take_is_told_field_value_and_bound(
    request_: Any, field: str, reason: str, sentence: str
) -> None:
    """A request that is wrong and always will be is refused with its field, a reason, and a sentence that helps."""
    with pytest.raises(InvalidRequest) as refused:
        check(rpc(request_), request_)

    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert sentence in refused.value.message
    assert is_plain(refused.value)
    assert len(refused.value.message) < 300

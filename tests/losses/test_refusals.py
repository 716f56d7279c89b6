"""Every request that is wrong before anything is computed, and the sentence that it gets."""

from __future__ import annotations

from typing import Any

import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest, NotServed
from tests.losses.checked import check, is_plain
from tests.losses.messages import raw, zeros
from tests.losses.requests import (
    BOOL,
    F32,
    I32,
    I64,
    bce,
    bce_with_logits,
    cross_entropy,
    distribution,
    entropy,
    rpc,
)

NAN, INF = float("nan"), float("inf")


TENSORS = [
    # What an attacker declares: found in Python ints, before anything is allocated.
    (cross_entropy(input=None), "input", "MISSING_FIELD", "input is missing"),
    (cross_entropy(target=None), "target", "MISSING_FIELD", "target is missing"),
    (
        cross_entropy(input=pb.Tensor(shape=[8, 16])),
        "input",
        "UNKNOWN_ENUM",
        "input has dtype 0, which is not one of bool, uint8, ",
    ),
    (
        cross_entropy(input=raw([8], 99, 32)),
        "input",
        "UNKNOWN_ENUM",
        "input has dtype 99, which is not one of bool, uint8, ",
    ),
    (cross_entropy(input=raw([-8, 16], F32, 512)), "input", "INVALID_SHAPE", "input.shape[0] = -8 is outside [0, "),
    (cross_entropy(input=raw([8, -1], F32, 0)), "input", "INVALID_SHAPE", "input.shape[1] = -1 is outside [0, "),
    (bce(input=raw([0, 2**62], F32, 0)), "input", "INVALID_SHAPE", f"input.shape[1] = {2**62} is outside [0, "),
    (bce(input=raw([2**32, 2**32], F32, 0)), "input", "INVALID_SHAPE", f"spans {2**64} elements, at most {2**48}"),
    (bce(input=raw([0, 2**40, 2**40], F32, 0)), "input", "INVALID_SHAPE", f"spans {2**80} elements, at most {2**48}"),
    (entropy(input=raw([2**30, 0], F32, 0)), "input", "INVALID_SHAPE", f"{2**30} rows of no class, at most 65536"),
    (bce(input=raw([1] * 9, F32, 4)), "input", "RANK_TOO_LARGE", "input has 9 dimensions, at most 8 are taken"),
    (bce(input=raw([1] * 10**6, F32, 4)), "input", "RANK_TOO_LARGE", "has 1000000 dimensions, at most 8"),
    (
        cross_entropy(input=raw([2**20, 2**20], F32, 4)),
        "input",
        "LENGTH_MISMATCH",
        f"input has 4 bytes of data, but its shape [1048576, 1048576] of float32 takes {2**42}",
    ),
    (
        cross_entropy(target=raw([8], I64, 60)),
        "target",
        "LENGTH_MISMATCH",
        "target has 60 bytes of data, but its shape [8] of int64 takes 64",
    ),
    (cross_entropy(target=pb.Tensor(dtype=I64, shape=[8])), "target", "LENGTH_MISMATCH", "has 0 bytes"),
    (
        bce(target=pb.Tensor(dtype=BOOL, shape=[8, 16], data=bytes(35) + b"\x02" + bytes(92))),
        "target",
        "INVALID_BOOL",
        "target[2, 3] = 2 is not a bool: 0 or 1",
    ),
    (
        bce(input=pb.Tensor(dtype=F32, shape=[8, 16], streamed=pb.Streamed())),
        "input",
        "STREAMED_OUTSIDE_STREAM",
        "input is streamed",
    ),
]
SHAPES = [
    (cross_entropy(input=zeros()), "input", "INVALID_SHAPE", "input has shape [], but a class dimension is needed"),
    (entropy(input=zeros()), "input", "INVALID_SHAPE", "input has shape [], but a class dimension is needed"),
    (
        cross_entropy(target=zeros(7, dtype=I64)),
        "target",
        "SHAPE_MISMATCH",
        "target has shape [7], but must have shape [8]: one class index for each row of the input of shape [8, 16]",
    ),
    (cross_entropy(target=zeros(8, 16, dtype=I64)), "target", "SHAPE_MISMATCH", "must have shape [8]: one class index"),
    (cross_entropy(target=zeros(8, 1, dtype=I64)), "target", "SHAPE_MISMATCH", "must have shape [8]: one class index"),
    (cross_entropy(target=zeros(dtype=I64)), "target", "SHAPE_MISMATCH", "must have shape [8]: one class index"),
    (cross_entropy(target=zeros(8)), "target", "SHAPE_MISMATCH", "must have shape [8, 16]: "),
    (cross_entropy(input=zeros(5), target=zeros(2, dtype=I64)), "target", "SHAPE_MISMATCH", "must have shape []"),
    (cross_entropy(input=zeros(5), target=zeros(1)), "target", "SHAPE_MISMATCH", "must have shape [5]"),
    (
        cross_entropy(weight=zeros(15)),
        "weight",
        "SHAPE_MISMATCH",
        "weight has shape [15], but must have shape [16]: one weight for each of 16 classes",
    ),
    (cross_entropy(weight=zeros(16, 1)), "weight", "SHAPE_MISMATCH", "must have shape [16]"),
    (cross_entropy(weight=zeros()), "weight", "SHAPE_MISMATCH", "must have shape [16]"),
    (bce(target=zeros(8, 1)), "target", "SHAPE_MISMATCH", "target has shape [8, 1], but must have shape [8, 16]"),
    (
        bce(weight=zeros(8)),
        "weight",
        "SHAPE_MISMATCH",
        "weight of shape [8] does not broadcast to the input's shape [8, 16]",
    ),
    (bce(weight=zeros(1, 8, 16)), "weight", "SHAPE_MISMATCH", "does not broadcast"),
    (bce_with_logits(pos_weight=zeros(4, 8, 16)), "pos_weight", "SHAPE_MISMATCH", "pos_weight of shape [4, 8, 16]"),
    (bce_with_logits(pos_weight=zeros(0)), "pos_weight", "SHAPE_MISMATCH", "pos_weight of shape [0]"),
    (
        cross_entropy(grad_output=zeros(8)),
        "grad_output",
        "SHAPE_MISMATCH",
        "grad_output has shape [8], but must have shape []: that of the loss with reduction mean",
    ),
    (cross_entropy(grad_output=zeros(), reduction=1), "grad_output", "SHAPE_MISMATCH", "must have shape [8]"),
    (bce(grad_output=zeros(16), reduction=1), "grad_output", "SHAPE_MISMATCH", "must have shape [8, 16]"),
]
INDICES_NEED = "target has dtype float32, but must have an integer dtype with target_kind indices"
DTYPES = [
    (
        cross_entropy(input=zeros(8, 16, dtype=I32)),
        "input",
        "DTYPE_NOT_TAKEN",
        "input has dtype int32, but must have a fl",
    ),
    (
        cross_entropy(target=zeros(8, dtype=BOOL)),
        "target",
        "DTYPE_NOT_TAKEN",
        "target has dtype bool, but must have an in",
    ),
    (cross_entropy(target_kind=3), "target", "DTYPE_NOT_TAKEN", "a float dtype with target_kind probabilities"),
    (distribution(target_kind=5), "target", "DTYPE_NOT_TAKEN", INDICES_NEED),
    (cross_entropy(weight=zeros(16, dtype=I64)), "weight", "DTYPE_NOT_TAKEN", "weight has dtype int64"),
    (cross_entropy(grad_output=zeros(dtype=I64)), "grad_output", "DTYPE_NOT_TAKEN", "grad_output has dtype int64"),
    (entropy(input=zeros(8, 16, dtype=I64)), "input", "DTYPE_NOT_TAKEN", "integer dtype with kind counts"),
    (entropy(input=zeros(8, 16, dtype=BOOL), kind=4), "input", "DTYPE_NOT_TAKEN", "input has dtype bool"),
    (bce(input=zeros(8, 16, dtype=BOOL)), "input", "DTYPE_NOT_TAKEN", "input has dtype bool"),
    (bce(weight=zeros(16, dtype=I32)), "weight", "DTYPE_NOT_TAKEN", "weight has dtype int32"),
    (bce_with_logits(pos_weight=zeros(dtype=BOOL)), "pos_weight", "DTYPE_NOT_TAKEN", "pos_weight has dtype bool"),
]
OPTIONS = [
    (cross_entropy(label_smoothing=-0.1), "label_smoothing", "OPTION_OUT_OF_RANGE", "= -0.1 is outside [0, 1]"),
    (cross_entropy(label_smoothing=1.5), "label_smoothing", "OPTION_OUT_OF_RANGE", "= 1.5 is outside [0, 1]"),
    (cross_entropy(label_smoothing=NAN), "label_smoothing", "OPTION_OUT_OF_RANGE", "= nan is outside [0, 1]"),
    (cross_entropy(base=0.0), "base", "OPTION_OUT_OF_RANGE", "base = 0.0 is outside (0, inf) without 1"),
    (cross_entropy(base=-2.0), "base", "OPTION_OUT_OF_RANGE", "base = -2.0 is outside"),
    (entropy(base=1.0), "base", "OPTION_OUT_OF_RANGE", "base = 1.0 is outside"),
    (entropy(base=NAN), "base", "OPTION_OUT_OF_RANGE", "base = nan is outside"),
    (entropy(base=INF), "base", "OPTION_OUT_OF_RANGE", "base = inf is outside"),
    (bce(normalizer=0.0), "normalizer", "OPTION_OUT_OF_RANGE", "normalizer = 0.0 is outside (0, inf)"),
    (bce(normalizer=-1.0), "normalizer", "OPTION_OUT_OF_RANGE", "normalizer = -1.0 is outside (0, inf)"),
    (bce(normalizer=INF), "normalizer", "OPTION_OUT_OF_RANGE", "normalizer = inf is outside (0, inf)"),
    (bce(normalizer=NAN), "normalizer", "OPTION_OUT_OF_RANGE", "normalizer = nan is outside (0, inf)"),
    (bce(normalizer=2.0, reduction=3), "normalizer", "OPTION_NOT_TAKEN", "normalizer is given with reduction sum"),
    (bce(normalizer=2.0, reduction=1), "normalizer", "OPTION_NOT_TAKEN", "normalizer is given with reduction none"),
    (entropy(dim=2), "dim", "OPTION_OUT_OF_RANGE", "dim = 2 is outside [-2, 1] for input of shape [8, 16]"),
    (entropy(dim=-3), "dim", "OPTION_OUT_OF_RANGE", "dim = -3 is outside [-2, 1]"),
    (distribution(ignore_index=0), "ignore_index", "OPTION_NOT_TAKEN", "ignore_index = 0 is not taken with a distr"),
    (cross_entropy(reduction=9), "reduction", "UNKNOWN_ENUM", "reduction = 9 is not one of none, "),
    (cross_entropy(reduction=-1), "reduction", "UNKNOWN_ENUM", "reduction = -1 is not one of none, "),
    (cross_entropy(empty_mean=9), "empty_mean", "UNKNOWN_ENUM", "empty_mean = 9 is not one of nan, "),
    (cross_entropy(kind=9), "kind", "UNKNOWN_ENUM", "kind = 9 is not one of logits, "),
    (cross_entropy(target_kind=9), "target_kind", "UNKNOWN_ENUM", "target_kind = 9 is not one of logits, "),
    (cross_entropy(gradients=[9]), "gradients", "UNKNOWN_ENUM", "gradients[0] = 9 is not one of input, "),
    (cross_entropy(gradients=[1, 0]), "gradients", "UNKNOWN_ENUM", "gradients[1] = 0 is not one of input, "),
    (cross_entropy(gradients=[1] * 9), "gradients", "OPTION_OUT_OF_RANGE", "gradients has 9 entries, at most 8"),
    (cross_entropy(kind=5), "kind", "OPTION_NOT_TAKEN", "kind = indices is not taken by CrossEntropy"),
    (cross_entropy(target_kind=1), "target_kind", "OPTION_NOT_TAKEN", "target_kind = logits is not taken by"),
    (entropy(kind=2), "kind", "OPTION_NOT_TAKEN", "kind = log_probabilities is not taken by Entropy"),
    (
        cross_entropy(gradients=[2]),
        "gradients",
        "GRADIENT_NOT_TAKEN",
        "the gradient of target is asked for, but class indices have none",
    ),
    (cross_entropy(gradients=[3]), "gradients", "GRADIENT_NOT_TAKEN", "with distribution targets only"),
    (
        entropy(gradients=[2]),
        "gradients",
        "GRADIENT_NOT_TAKEN",
        "the gradient of target is asked for, but Entropy has no target",
    ),
    (
        bce(gradients=[3]),
        "gradients",
        "GRADIENT_NOT_TAKEN",
        "the gradient of weight is asked for, but the weight of BCE has none",
    ),
    (
        bce(target=zeros(8, 16, dtype=BOOL), gradients=[2]),
        "gradients",
        "GRADIENT_NOT_TAKEN",
        "a target of a bool or integer dtype has none",
    ),
    (
        entropy(input=zeros(8, 16, dtype=I64), kind=4, gradients=[1]),
        "gradients",
        "GRADIENT_NOT_TAKEN",
        "counts of an integer dtype have none",
    ),
    *(
        (make(reduction=4), "reduction", "OPTION_NOT_TAKEN", "reduction = batchmean is not taken by")
        for make in (cross_entropy, entropy, bce, bce_with_logits)
    ),
]
SHARED = pb.Tensor(dtype=F32, shape=[8, 16], shared_memory=pb.SharedMemory(token=bytes(16), length=512))
LATER = [(cross_entropy(input=SHARED), "input", "input lies in shared memory")]


@pytest.mark.parametrize("request_, field, reason, sentence", [*TENSORS, *SHAPES, *DTYPES, *OPTIONS])
def test_a_wrong_request_is_told_field_value_and_bound(request_: Any, field: str, reason: str, sentence: str) -> None:
    """A request that is wrong and always will be is refused with its field, a reason, and a sentence that helps."""
    with pytest.raises(InvalidRequest) as refused:
        check(rpc(request_), request_)

    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert sentence in refused.value.message
    assert is_plain(refused.value)
    assert len(refused.value.message) < 300
    assert sum(map(len, refused.value.metadata.values())) < 1000


@pytest.mark.parametrize("request_, field, sentence", LATER)
def test_an_option_to_come_is_refused_by_name(request_: Any, field: str, sentence: str) -> None:
    """What the contract has and this server not yet is said to be so, never ignored."""
    with pytest.raises(NotServed) as refused:
        check(rpc(request_), request_)

    assert refused.value.field == field
    assert sentence in refused.value.message

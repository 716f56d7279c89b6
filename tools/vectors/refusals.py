"""Wrong requests: each reason and field that a unary request can be refused with."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import Message

from lossd.v1 import loss_pb2, tensor_pb2
from vectors.case import Refusal
from vectors.request import message, rpc_of
from vectors.values import (
    Array,
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

X, Y, T = logits(4, 5), labels(4, classes=5), shares(4, 5)
P, Q, U = probabilities(3, 4), probabilities(3, 4, seed=2), log_probabilities(4, 5)
NAN, INF = float("nan"), float("inf")


def refused(name: str, reason: str, field: str, method: str, *tensors: Array, **options: Any) -> Refusal:
    return Refusal(name, rpc_of(method), message(method, *tensors, **options), reason, field)


def value(name: str, reason: str, field: str, method: str, *tensors: Array, **options: Any) -> Refusal:
    """A value of a tensor is wrong: found in the pass itself, whatever block it lies in."""
    return Refusal(name, rpc_of(method), message(method, *tensors, **options), reason, field, value=True)


def changed(name: str, reason: str, field: str, request: Any, code: str = "INVALID_ARGUMENT") -> Refusal:
    rpc = request.DESCRIPTOR.name.removesuffix("Request")
    return Refusal(name, rpc, request, reason, field, code)


def with_tensor(request: Message, name: str, **fields: Any) -> Message:
    """Its tensor `name` has other fields than `message` gave it."""
    getattr(request, name).MergeFrom(tensor_pb2.Tensor(**fields))
    return request


def without_data(request: Message, name: str, **fields: Any) -> Message:
    """Its tensor `name` has no data, but what `fields` say."""
    tensor = getattr(request, name)
    tensor.CopyFrom(tensor_pb2.Tensor(dtype=tensor.dtype, shape=tensor.shape, **fields))
    return request


def placed(gradient: int) -> Message:
    """A request whose gradient is to be placed where no region is."""
    request: Any = message("cross_entropy", X, Y, grad=True)
    place = tensor_pb2.SharedMemory(token=bytes(16), offset=0, length=80)
    request.placements.append(loss_pb2.Placement(gradient=gradient, shared_memory=place))
    made: Message = request
    return made


def wrong_class(y: list[int]) -> Array:
    return np.array(y)


VALUES = [
    value("a class of C", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, wrong_class([0, 5, 0, 0])),
    value("a negative class", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, wrong_class([0, 0, 0, -1])),
    value(
        "-100 with another ignore_index",
        "CLASS_OUT_OF_RANGE",
        "target",
        "cross_entropy",
        X,
        wrong_class([-100, 0, 0, 0]),
        ignore_index=0,
    ),
    value(
        "a class of C, uint8", "CLASS_OUT_OF_RANGE", "target", "cross_entropy", X, np.array([0, 1, 2, 200], np.uint8)
    ),
    value("a class out of range", "CLASS_OUT_OF_RANGE", "target", "nll", U, wrong_class([0, 1, 2, 9])),
    value(
        "a negative count",
        "NEGATIVE_COUNT",
        "input",
        "cross_entropy",
        f32([[1, 2], [3, -1]]),
        wrong_class([0, 0]),
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
        wrong_class([0, 0]),
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

CROSS_ENTROPY = [
    changed("no input", "MISSING_FIELD", "input", message("cross_entropy")),
    changed("no target", "MISSING_FIELD", "target", message("cross_entropy", X)),
    changed(
        "an unknown dtype", "UNKNOWN_ENUM", "input", with_tensor(message("cross_entropy", X, Y), "input", dtype=99)
    ),
    changed("no dtype", "UNKNOWN_ENUM", "target", without_dtype := message("cross_entropy", X, Y)),
    refused("logits of int64", "DTYPE_NOT_TAKEN", "input", "cross_entropy", counts(4, 5, dtype=np.int64), Y),
    refused("a bool target", "DTYPE_NOT_TAKEN", "target", "cross_entropy", X, bits(4)),
    refused(
        "float indices with target_kind indices",
        "DTYPE_NOT_TAKEN",
        "target",
        "cross_entropy",
        X,
        T,
        target_kind="indices",
    ),
    refused("a weight of int64", "DTYPE_NOT_TAKEN", "weight", "cross_entropy", X, Y, weight=np.ones(5, np.int64)),
    refused("a row_weight of bool", "DTYPE_NOT_TAKEN", "row_weight", "cross_entropy", X, Y, row_weight=bits(4)),
    refused(
        "a grad_output of int32",
        "DTYPE_NOT_TAKEN",
        "grad_output",
        "cross_entropy",
        X,
        Y,
        grad_output=np.array(1, np.int32),
    ),
    changed(
        "data too short",
        "LENGTH_MISMATCH",
        "input",
        with_tensor(message("cross_entropy", X, Y), "input", data=X.tobytes()[:-1]),
    ),
    changed(
        "data too long",
        "LENGTH_MISMATCH",
        "target",
        with_tensor(message("cross_entropy", X, Y), "target", data=Y.tobytes() * 2),
    ),
    changed("data absent", "LENGTH_MISMATCH", "input", without_data(message("cross_entropy", X, Y), "input")),
    changed(
        "a negative dimension",
        "INVALID_SHAPE",
        "input",
        with_tensor(message("cross_entropy", X, Y), "input", shape=[-1]),
    ),
    changed(
        "nine dimensions",
        "RANK_TOO_LARGE",
        "input",
        with_tensor(message("cross_entropy", X, Y), "input", shape=[1] * 7),
    ),
    refused("a scalar input", "INVALID_SHAPE", "input", "cross_entropy", f32(1), np.array(0)),
    refused("a target of another length", "SHAPE_MISMATCH", "target", "cross_entropy", X, labels(3, classes=5)),
    refused(
        "a one-hot target of integers", "SHAPE_MISMATCH", "target", "cross_entropy", X, np.eye(5, dtype=np.int64)[Y]
    ),
    refused("class indices of float32", "SHAPE_MISMATCH", "target", "cross_entropy", X, Y.astype(np.float32)),
    refused("a weight of another length", "SHAPE_MISMATCH", "weight", "cross_entropy", X, Y, weight=positive(4)),
    refused(
        "a row_weight of another length", "SHAPE_MISMATCH", "row_weight", "cross_entropy", X, Y, row_weight=positive(5)
    ),
    refused(
        "a grad_output of the rows with a mean",
        "SHAPE_MISMATCH",
        "grad_output",
        "cross_entropy",
        X,
        Y,
        grad_output=positive(4),
    ),
    *(
        refused(
            f"label_smoothing {e:g}", "OPTION_OUT_OF_RANGE", "label_smoothing", "cross_entropy", X, Y, label_smoothing=e
        )
        for e in (-0.1, 1.5, NAN)
    ),
    *(
        refused(f"base {base:g}", "OPTION_OUT_OF_RANGE", "base", "cross_entropy", X, Y, base=base)
        for base in (0.0, 1.0, -2.0, INF)
    ),
    *(
        refused(f"normalizer {n:g}", "OPTION_OUT_OF_RANGE", "normalizer", "cross_entropy", X, Y, normalizer=n)
        for n in (0.0, -1.0, INF, NAN)
    ),
    refused(
        "normalizer with a sum",
        "OPTION_NOT_TAKEN",
        "normalizer",
        "cross_entropy",
        X,
        Y,
        normalizer=2.0,
        reduction="sum",
    ),
    refused(
        "normalizer too small for float32 gradients",
        "OPTION_OUT_OF_RANGE",
        "normalizer",
        "cross_entropy",
        X,
        Y,
        normalizer=1e-300,
        grad=True,
    ),
    refused("z_loss -1", "OPTION_OUT_OF_RANGE", "z_loss", "cross_entropy", X, Y, z_loss=-1.0),
    refused("z_loss too large for float32", "OPTION_OUT_OF_RANGE", "z_loss", "cross_entropy", X, Y, z_loss=1e300),
    refused("softcap 0", "OPTION_OUT_OF_RANGE", "softcap", "cross_entropy", X, Y, softcap=0.0),
    refused(
        "z_loss of probabilities", "OPTION_NOT_TAKEN", "z_loss", "cross_entropy", T, Y, kind="probabilities", z_loss=0.1
    ),
    refused(
        "softcap of counts", "OPTION_NOT_TAKEN", "softcap", "cross_entropy", counts(4, 5), Y, kind="counts", softcap=1.0
    ),
    refused(
        "outputs of probabilities",
        "OPTION_NOT_TAKEN",
        "outputs",
        "cross_entropy",
        T,
        Y,
        kind="probabilities",
        outputs="lse",
    ),
    refused(
        "output correct of a distribution", "OPTION_NOT_TAKEN", "outputs", "cross_entropy", X, T, outputs="correct"
    ),
    refused("kind indices of an input", "OPTION_NOT_TAKEN", "kind", "cross_entropy", X, Y, kind="indices"),
    refused("target_kind logits", "OPTION_NOT_TAKEN", "target_kind", "cross_entropy", X, T, target_kind="logits"),
    refused("reduction batchmean", "OPTION_NOT_TAKEN", "reduction", "cross_entropy", X, Y, reduction="batchmean"),
    refused(
        "ignore_index 0 with a distribution", "OPTION_NOT_TAKEN", "ignore_index", "cross_entropy", X, T, ignore_index=0
    ),
    refused(
        "the target's gradient with class indices",
        "GRADIENT_NOT_TAKEN",
        "gradients",
        "cross_entropy",
        X,
        Y,
        grad="target",
    ),
    refused(
        "the weight's gradient with class indices",
        "GRADIENT_NOT_TAKEN",
        "gradients",
        "cross_entropy",
        X,
        Y,
        grad="weight",
    ),
    refused(
        "the gradient of integer counts",
        "GRADIENT_NOT_TAKEN",
        "gradients",
        "cross_entropy",
        counts(4, 5, dtype=np.int32),
        Y,
        kind="counts",
        grad=True,
    ),
    *(
        refused(f"an unknown {name}", "UNKNOWN_ENUM", name, "cross_entropy", X, Y, **{name: 99})
        for name in ("reduction", "kind", "target_kind", "empty_mean")
    ),
    refused("an unknown gradient", "UNKNOWN_ENUM", "gradients", "cross_entropy", X, Y, grad=(99,)),
    refused("an unspecified gradient", "UNKNOWN_ENUM", "gradients", "cross_entropy", X, Y, grad=(0,)),
    refused("an unknown output", "UNKNOWN_ENUM", "outputs", "cross_entropy", X, Y, outputs=(99,)),
    refused(
        "more gradients than there are", "OPTION_OUT_OF_RANGE", "gradients", "cross_entropy", X, Y, grad=("input",) * 9
    ),
    refused(
        "more outputs than there are", "OPTION_OUT_OF_RANGE", "outputs", "cross_entropy", X, Y, outputs=("lse",) * 9
    ),
    changed(
        "a streamed tensor outside Stream",
        "STREAMED_OUTSIDE_STREAM",
        "input",
        without_data(message("cross_entropy", X, Y), "input", streamed=tensor_pb2.Streamed()),
    ),
    changed(
        "an unknown region of shared memory",
        "UNKNOWN_REGION",
        "",
        without_data(
            message("cross_entropy", X, Y),
            "input",
            shared_memory=tensor_pb2.SharedMemory(token=bytes(16), offset=0, length=80),
        ),
        "NOT_FOUND",
    ),
    changed("a placement in an unknown region", "UNKNOWN_REGION", "", placed(loss_pb2.GRADIENT_INPUT), "NOT_FOUND"),
]
without_dtype.target.dtype = 0  # type: ignore[attr-defined]  # a field of the generated class

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
    changed("an unknown function", "UNKNOWN_ENUM", "function", unknown_function := message("softmax", X)),
]
unknown_function.function = 99  # type: ignore[attr-defined]

REFUSALS = [*VALUES, *CROSS_ENTROPY, *OTHERS]

"""Wrong requests of CrossEntropy."""

from __future__ import annotations

import numpy as np

from lossd.v1 import loss_pb2, tensor_pb2
from vectors.cases.refusal import changed, refused, with_tensor, without_data
from vectors.request import message
from vectors.values import (
    bits,
    counts,
    f32,
    labels,
    logits,
    positive,
    shares,
)

NAN, INF = float("nan"), float("inf")
X, Y, T = logits(4, 5), labels(4, classes=5), shares(4, 5)
PLACED = loss_pb2.Placement(
    gradient=loss_pb2.GRADIENT_INPUT, shared_memory=tensor_pb2.SharedMemory(token=bytes(16), offset=0, length=80)
)

REFUSALS = [
    changed("no input", "MISSING_FIELD", "input", message("cross_entropy")),
    changed("no target", "MISSING_FIELD", "target", message("cross_entropy", X)),
    changed(
        "an unknown dtype", "UNKNOWN_ENUM", "input", with_tensor(message("cross_entropy", X, Y), "input", dtype=99)
    ),
    changed("no dtype", "UNKNOWN_ENUM", "target", with_tensor(message("cross_entropy", X, Y), "target", dtype=0)),
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
        with_tensor(message("cross_entropy", X, Y), "input", shape=[-4, 5]),
    ),
    changed(
        "nine dimensions",
        "RANK_TOO_LARGE",
        "input",
        with_tensor(message("cross_entropy", X, Y), "input", shape=[4, 5] + [1] * 7),
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
    refused(
        "weights too small for float32 gradients",
        "OPTION_OUT_OF_RANGE",
        "weight",
        "cross_entropy",
        X,
        Y,
        weight=f32([1e-40] * 5),
        grad=True,
    ),
    refused(
        "a grad_output too large for float32 gradients",
        "OPTION_OUT_OF_RANGE",
        "grad_output",
        "cross_entropy",
        X,
        Y,
        weight=f32([1e-3] * 5),
        grad_output=f32(3e38),
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
    changed(
        "a placement in an unknown region",
        "UNKNOWN_REGION",
        "",
        message("cross_entropy", X, Y, grad=True, placements=[PLACED]),
        "NOT_FOUND",
    ),
]

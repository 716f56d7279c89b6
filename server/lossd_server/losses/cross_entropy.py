"""CrossEntropy: −Σ w·t'·log softmax(x) of every row, from class indices or from distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from lossd.v1 import loss_pb2 as pb
from lossd.v1 import tensor_pb2
from lossd_server.array import FLOATS, INTEGERS, Array
from lossd_server.errors import InvalidRequest
from lossd_server.job import Formula, Job, Layout
from lossd_server.losses import options, rowwise
from lossd_server.losses.operands import (
    Fields,
    dtype_not_taken,
    float_operand,
    operand,
    optional_float_operand,
)
from lossd_server.losses.shapes import require, rows
from lossd_server.widening import compute_dtype, widen

RPC = "CrossEntropy"
TAKEN = options.COMMON | {
    "target",
    "weight",
    "kind",
    "target_kind",
    "base",
    "ignore_index",
    "label_smoothing",
}
KINDS: dict[int, int] = {pb.KIND_UNSPECIFIED: pb.KIND_LOGITS, pb.KIND_LOGITS: pb.KIND_LOGITS}
KINDS_LATER = (pb.KIND_LOG_PROBABILITIES, pb.KIND_PROBABILITIES, pb.KIND_COUNTS)
# Whether the target is a distribution; None: its dtype tells.
TARGET_KINDS: dict[int, bool | None] = {
    pb.KIND_UNSPECIFIED: None,
    pb.KIND_INDICES: False,
    pb.KIND_PROBABILITIES: True,
}
NO_GRADIENT_OF_INDICES: dict[int, str] = {
    pb.GRADIENT_TARGET: "class indices have none",
    pb.GRADIENT_WEIGHT: "a class weight has one with distribution targets only",
}
IGNORE_INDEX = -100


def check(request: Message) -> Job:
    """input float (C), (N, C) or (N, C, d1 … dk); target integer (), (N) or (N, d1 … dk), or float as the input.

    Raises InvalidRequest and NotServed.
    """
    fields = options.set_fields(RPC, request, TAKEN)
    options.choice(RPC, fields, "kind", pb.Kind, KINDS, KINDS_LATER)
    logits = rowwise.floats(float_operand(fields, "input"))
    layout, loss_shape = rows(logits.shape)
    target = operand(fields, "target")
    distribution = _is_distribution(fields, target)
    weight = optional_float_operand(fields, "weight")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(logits, target, weight, grad_output)
    if distribution:
        require(target.shape, logits.shape, "target", f"a distribution for input of shape {list(logits.shape)}")
        target = rowwise.floats(target)
    else:
        target = _indices(target, logits.shape, loss_shape)
    gradients = options.gradients(RPC, fields, {} if distribution else NO_GRADIENT_OF_INDICES)
    reducing = options.reducing(RPC, fields, options.per_nat(fields), grad_output, loss_shape)
    return Job(
        rpc=RPC,
        formula=Formula.CROSS_ENTROPY_DISTRIBUTION if distribution else Formula.CROSS_ENTROPY_INDEX,
        layout=layout,
        compute=compute,
        input=logits,
        target=target,
        class_weight=_class_weight(weight, layout, compute),
        row_upstream=rowwise.upstream(grad_output, reducing),
        ignore_index=_ignore_index(fields, distribution),
        label_smoothing=options.number(fields, "label_smoothing", 0.0, "[0, 1]", low=0.0, high=1.0, open_low=False),
        reducing=reducing,
        loss_shape=loss_shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
        target_gradient=pb.GRADIENT_TARGET in gradients,
    )


def _is_distribution(fields: Fields, target: Array) -> bool:
    distribution = options.choice(RPC, fields, "target_kind", pb.Kind, TARGET_KINDS, (pb.KIND_COUNTS,))
    if distribution is not False and target.dtype in FLOATS:
        return True
    if distribution is not True and target.dtype in INTEGERS:
        return False
    if distribution is None:
        raise dtype_not_taken(target, "target", "an integer dtype for class indices or a float dtype for distributions")
    if distribution:
        raise dtype_not_taken(target, "target", "a float dtype for target_kind KIND_PROBABILITIES")
    raise dtype_not_taken(target, "target", "an integer dtype for target_kind KIND_INDICES")


def _indices(target: Array, input_shape: tuple[int, ...], loss_shape: tuple[int, ...]) -> Array:
    """One int64 class index a row. The target of a 1-D input may be () or (1)."""
    if not (len(input_shape) == 1 and target.shape == (1,)):
        because = f"class indices (integer dtype) for input of shape {list(input_shape)}"
        require(target.shape, loss_shape, "target", because)
    return Array(target.values.astype(np.int64, copy=False), tensor_pb2.DATA_TYPE_INT64, target.shape)


def _class_weight(weight: Array | None, layout: Layout, compute: np.dtype[Any]) -> npt.NDArray[Any] | None:
    if weight is None:
        return None
    require(weight.shape, (layout.classes,), "weight", f"a class weight for {layout.classes} classes")
    return widen(weight.values, weight.dtype, compute)


def _ignore_index(fields: Fields, distribution: bool) -> int:
    """PyTorch refuses it with distributions from 0 on only, so that its default can be passed on."""
    ignored: int = fields.get("ignore_index", IGNORE_INDEX)
    if distribution and ignored >= 0:
        raise InvalidRequest(
            f"ignore_index = {ignored} is not taken with a distribution target: class indices have one",
            reason="OPTION_NOT_TAKEN",
            field="ignore_index",
            metadata={"value": ignored},
        )
    return ignored

"""NLL: −w[y]·u[y] of every row of log-probabilities u, from class indices."""

from __future__ import annotations

from lossd.contract import IGNORE_INDEX
from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind
from lossd_server.losses import class_targets, options, rowwise
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import dtype_not_taken, float_operand, operand, optional_float_operand
from lossd_server.losses.shapes import rows
from lossd_server.tensors.array import INTEGERS
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "NLL"
NO_GRADIENT = class_targets.NO_TARGET_GRADIENT | {pb.GRADIENT_WEIGHT: "the class weight of NLL has none"}


def check(fields: Fields) -> Job:
    """input float (C), (N, C) or (N, C, d1 … dk); target integer (), (N) or (N, d1 … dk).

    Raises InvalidRequest and NotServed.
    """
    sent = float_operand(fields, "input")
    layout, loss_shape = rows(sent.shape)
    target = operand(fields, "target")
    if target.dtype not in INTEGERS:
        raise dtype_not_taken(target, "target", "an integer dtype for class indices")
    weight = optional_float_operand(fields, "weight")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, weight, grad_output)
    gradients = options.gradients(fields, NO_GRADIENT)
    reducing = options.reducing(RPC, fields, 1.0, grad_output, loss_shape)
    job = Job(
        rpc=RPC,
        formula=Formula.NLL,
        layout=layout,
        compute=compute,
        input=sent,
        target=class_targets.indices(target, sent.shape, loss_shape),
        **rowwise.weight_fields(
            compute,
            class_weight=class_targets.weights(weight, layout),
            row_upstream=rowwise.row_upstream(grad_output, reducing),
        ),
        ignore_index=fields.get("ignore_index", IGNORE_INDEX),
        input_kind=Kind.LOG_PROBABILITIES,
        reducing=reducing,
        loss_shape=loss_shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
    )
    return ready(job)

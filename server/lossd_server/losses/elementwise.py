"""Elementwise losses: what they have in common. Input and target of one shape, weights that broadcast to it."""

from __future__ import annotations

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Reducing, Reduction
from lossd_server.losses import options
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import float_operand, operand, optional_float_operand
from lossd_server.losses.shapes import broadcast, elements, require
from lossd_server.tensors.array import FLOATS, Array, View
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields


def check(rpc: str, fields: Fields, formula: Formula) -> Job:
    """input float of any shape; target of the same, of any dtype; weight and pos_weight float, broadcasting.

    Raises InvalidRequest and NotServed.
    """
    sent = float_operand(fields, "input")
    target = operand(fields, "target")
    require(target.shape, sent.shape, "target", "that of the input, since nothing broadcasts")
    weight = optional_float_operand(fields, "weight")
    pos_weight = optional_float_operand(fields, "pos_weight")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, target, weight, pos_weight, grad_output)
    none: dict[int, str] = {pb.GRADIENT_WEIGHT: f"the weight of {rpc} has none"}
    if target.dtype not in FLOATS:
        none[pb.GRADIENT_TARGET] = "a target of a bool or integer dtype has none"
    gradients = options.gradients(fields, none)
    reducing = options.reducing(rpc, fields, 1.0, grad_output, sent.shape)
    job = Job(
        rpc=rpc,
        formula=formula,
        layout=elements(sent.shape),
        compute=compute,
        input=sent,
        target=target,
        weight=None if weight is None else broadcast(weight, sent.shape, "weight"),
        pos_weight=None if pos_weight is None else broadcast(pos_weight, sent.shape, "pos_weight"),
        upstream=element_upstream(grad_output, reducing, sent.shape),
        reducing=reducing,
        loss_shape=sent.shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
        target_gradient=pb.GRADIENT_TARGET in gradients,
    )
    return ready(job)


def element_upstream(grad_output: Array | None, reducing: Reducing, shape: tuple[int, ...]) -> View | None:
    """The upstream gradient of losses (or values) that come back element by element."""
    if grad_output is None or reducing.reduction is not Reduction.NONE:
        return None
    return broadcast(grad_output, shape, "grad_output")

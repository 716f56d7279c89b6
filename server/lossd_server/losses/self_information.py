"""SelfInformation: −log p of every element."""

from __future__ import annotations

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind, Reduction
from lossd_server.losses import elementwise, options
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import float_operand, optional_float_operand
from lossd_server.losses.shapes import elements
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "SelfInformation"
REDUCTIONS = options.REDUCTIONS | {pb.REDUCTION_UNSPECIFIED: Reduction.NONE}
NO_GRADIENT: dict[int, str] = {
    pb.GRADIENT_TARGET: "SelfInformation has no target",
    pb.GRADIENT_WEIGHT: "SelfInformation has no weight",
}


def check(fields: Fields) -> Job:
    """input float of any shape. Raises InvalidRequest and NotServed."""
    sent = float_operand(fields, "input")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, grad_output)
    gradients = options.gradients(fields, NO_GRADIENT)
    reducing = options.reducing(RPC, fields, options.log_base(fields), grad_output, sent.shape, REDUCTIONS)
    job = Job(
        rpc=RPC,
        formula=Formula.SELF_INFORMATION,
        layout=elements(sent.shape),
        compute=compute,
        input=sent,
        upstream=elementwise.element_upstream(grad_output, reducing, sent.shape),
        input_kind=Kind.PROBABILITIES,
        reducing=reducing,
        loss_shape=sent.shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
    )
    return ready(job)

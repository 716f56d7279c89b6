"""Entropy: −Σ p·log p of every row, from probabilities, logits or counts."""

from __future__ import annotations

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Formula, Job
from lossd_server.losses import counts, options, rowwise
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import optional_float_operand
from lossd_server.losses.shapes import rows
from lossd_server.tensors.array import INTEGERS
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "Entropy"
KINDS: dict[int, Formula] = {
    pb.KIND_UNSPECIFIED: Formula.ENTROPY_PROBABILITIES,
    pb.KIND_PROBABILITIES: Formula.ENTROPY_PROBABILITIES,
    pb.KIND_LOGITS: Formula.ENTROPY_LOGITS,
    pb.KIND_COUNTS: Formula.ENTROPY_COUNTS,
}
NO_GRADIENT: dict[int, str] = {
    pb.GRADIENT_TARGET: "Entropy has no target",
    pb.GRADIENT_WEIGHT: "Entropy has no class weight",
}
NO_GRADIENT_OF_INTEGERS = NO_GRADIENT | counts.NO_INPUT_GRADIENT


def check(fields: Fields) -> Job:
    """input float of at least one dimension; for COUNTS integers too. Raises InvalidRequest and NotServed."""
    formula = options.choice(RPC, fields, "kind", pb.Kind, KINDS)
    sent = counts.count_operand(fields, "input", "kind", formula is Formula.ENTROPY_COUNTS)
    layout, loss_shape = rows(sent.shape, fields.get("dim"))
    row_weight = optional_float_operand(fields, "row_weight")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, row_weight, grad_output)
    gradients = options.gradients(fields, NO_GRADIENT_OF_INTEGERS if sent.dtype in INTEGERS else NO_GRADIENT)
    reducing = options.reducing(RPC, fields, options.log_base(fields), grad_output, loss_shape)
    job = Job(
        rpc=RPC,
        formula=formula,
        layout=layout,
        compute=compute,
        input=sent,
        **rowwise.weight_fields(
            compute,
            row_weight=rowwise.row_weight(row_weight, loss_shape),
            row_upstream=rowwise.row_upstream(grad_output, reducing),
        ),
        reducing=reducing,
        loss_shape=loss_shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
    )
    return ready(job)

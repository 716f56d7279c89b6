"""Entropy: −Σ p·log p of every row, from probabilities, logits or counts."""

from __future__ import annotations

from google.protobuf.message import Message

from lossd.v1 import loss_pb2 as pb
from lossd_server.array import FLOATS, INTEGERS, Array
from lossd_server.job import Formula, Job
from lossd_server.losses import options, rowwise
from lossd_server.losses.operands import (
    Fields,
    dtype_not_taken,
    operand,
    optional_float_operand,
)
from lossd_server.losses.shapes import rows
from lossd_server.widening import compute_dtype, widened

RPC = "Entropy"
TAKEN = options.COMMON | {"kind", "base", "dim"}
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
NO_GRADIENT_OF_INTEGERS = {**NO_GRADIENT, pb.GRADIENT_INPUT: "counts of an integer dtype have none"}


def check(request: Message) -> Job:
    """input float of at least one dimension; for COUNTS integers too. Raises InvalidRequest and NotServed."""
    fields = options.set_fields(RPC, request, TAKEN)
    formula = options.choice(RPC, fields, "kind", pb.Kind, KINDS)
    sent = _input(fields, formula)
    layout, loss_shape = rows(sent.shape, fields.get("dim"))
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, grad_output)
    whole = sent.dtype in INTEGERS
    gradients = options.gradients(RPC, fields, NO_GRADIENT_OF_INTEGERS if whole else NO_GRADIENT)
    reducing = options.reducing(RPC, fields, options.per_nat(fields), grad_output, loss_shape)
    return Job(
        rpc=RPC,
        formula=formula,
        layout=layout,
        compute=compute,
        input=widened(sent, compute) if whole else rowwise.floats(sent),
        row_upstream=rowwise.upstream(grad_output, reducing),
        reducing=reducing,
        loss_shape=loss_shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
    )


def _input(fields: Fields, formula: Formula) -> Array:
    sent = operand(fields, "input")
    if sent.dtype in FLOATS or (formula is Formula.ENTROPY_COUNTS and sent.dtype in INTEGERS):
        return sent
    taken = "a float dtype, or an integer dtype for kind KIND_COUNTS,"
    raise dtype_not_taken(sent, "input", taken)

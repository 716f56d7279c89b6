"""KLDivergence: p·(log p − log q) of every element; q is the input, p the target."""

from __future__ import annotations

from dataclasses import replace

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Formula, Job, Kind, Reducing, Reduction
from lossd_server.losses import counts, elementwise, options
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import optional_float_operand
from lossd_server.losses.shapes import elements, require, rows
from lossd_server.tensors.array import INTEGERS
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "KLDivergence"
INPUT_KINDS = options.KINDS | {pb.KIND_UNSPECIFIED: Kind.LOG_PROBABILITIES}
TARGET_KINDS = options.KINDS | {pb.KIND_UNSPECIFIED: Kind.PROBABILITIES}
# Kinds that are normalised over their rows, and so need rows.
BY_ROW = frozenset({Kind.LOGITS, Kind.COUNTS})
REDUCTIONS = options.REDUCTIONS | {pb.REDUCTION_BATCHMEAN: Reduction.MEAN}
NO_GRADIENT: dict[int, str] = {pb.GRADIENT_WEIGHT: "KLDivergence has no weight"}


def check(fields: Fields) -> Job:
    """input and target of one shape, float; integers too where they are COUNTS. Nothing broadcasts.

    Any shape; at least one dimension where either is LOGITS or COUNTS, whose rows lie along dimension 1 (0 of a 1-D
    input). Raises InvalidRequest and NotServed.
    """
    input_kind = options.choice(RPC, fields, "kind", pb.Kind, INPUT_KINDS)
    target_kind = options.choice(RPC, fields, "target_kind", pb.Kind, TARGET_KINDS)
    sent = counts.count_operand(fields, "input", "kind", input_kind is Kind.COUNTS)
    target = counts.count_operand(fields, "target", "target_kind", target_kind is Kind.COUNTS)
    require(target.shape, sent.shape, "target", "that of the input, since nothing broadcasts")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, target, grad_output)
    none = NO_GRADIENT
    if sent.dtype in INTEGERS:
        none = none | counts.NO_INPUT_GRADIENT
    if target_kind is Kind.COUNTS:
        none = none | counts.NO_TARGET_GRADIENT
    gradients = options.gradients(fields, none)
    reducing = options.reducing(RPC, fields, options.log_base(fields), grad_output, sent.shape, REDUCTIONS)
    formula, layout = Formula.KL, elements(sent.shape)
    if input_kind in BY_ROW or target_kind in BY_ROW:
        formula = Formula.KL_ROWS
        layout, _ = rows(sent.shape)
    job = Job(
        rpc=RPC,
        formula=formula,
        layout=layout,
        compute=compute,
        input=sent,
        target=target,
        upstream=elementwise.element_upstream(grad_output, reducing, sent.shape),
        input_kind=input_kind,
        target_kind=target_kind,
        reducing=_batchmean(reducing, fields, sent.shape),
        loss_shape=sent.shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
        target_gradient=pb.GRADIENT_TARGET in gradients,
    )
    return ready(job)


def _batchmean(reducing: Reducing, fields: Fields, shape: tuple[int, ...]) -> Reducing:
    """BATCHMEAN is a mean whose denominator is the size of dimension 0, or 1 for a scalar. Nothing has no mean."""
    if fields.get("reduction") != pb.REDUCTION_BATCHMEAN or reducing.normalizer is not None or 0 in shape[:1]:
        return reducing
    return replace(reducing, normalizer=float(shape[0]) if shape else 1.0)

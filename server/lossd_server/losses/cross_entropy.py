"""CrossEntropy: −Σ w·t'·log p of every row, p = softmax(x) or as `kind` says, from class indices or distributions."""

from __future__ import annotations

from lossd.contract import IGNORE_INDEX, gradient_dtype, value_names
from lossd.v1 import loss_pb2 as pb
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Formula, Job, Kind
from lossd_server.losses import auxiliary_outputs, class_targets, counts, options, rowwise
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import dtype_name, dtype_not_taken, operand, optional_float_operand
from lossd_server.losses.shapes import mismatch, rows
from lossd_server.tensors.array import FLOATS, INTEGERS, Array
from lossd_server.tensors.dtypes import DATA_TYPE, compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "CrossEntropy"
KINDS = options.KINDS | {pb.KIND_UNSPECIFIED: Kind.LOGITS}
# As stated; for 0 the target's dtype tells.
TARGET_KINDS: dict[int, int] = {
    kind: kind for kind in (pb.KIND_UNSPECIFIED, pb.KIND_INDICES, pb.KIND_PROBABILITIES, pb.KIND_COUNTS)
}
TARGET_DTYPES: dict[int, tuple[frozenset[int], str]] = {
    pb.KIND_INDICES: (INTEGERS, "an integer dtype"),
    pb.KIND_PROBABILITIES: (FLOATS, "a float dtype"),
    pb.KIND_COUNTS: (FLOATS | INTEGERS, "a float or integer dtype"),
}
ONE_HOT = "pass the class indices, or a float dtype to have them taken for distributions"
NO_GRADIENT: dict[int, dict[int, str]] = {
    pb.KIND_INDICES: class_targets.NO_TARGET_GRADIENT
    | {pb.GRADIENT_WEIGHT: "a class weight has one with distribution targets only"},
    pb.KIND_PROBABILITIES: {},
    pb.KIND_COUNTS: counts.NO_TARGET_GRADIENT,
}


def check(fields: Fields) -> Job:
    """input float (C), (N, C) or (N, C, d1 … dk); target integer (), (N) or (N, d1 … dk), or shaped as the input.

    COUNTS may be integers. Raises InvalidRequest and NotServed.
    """
    kind = options.choice(RPC, fields, "kind", pb.Kind, KINDS)
    sent = counts.count_operand(fields, "input", "kind", kind is Kind.COUNTS)
    layout, loss_shape = rows(sent.shape)
    target = operand(fields, "target")
    target_kind = _target_kind(fields, target)
    by_index = target_kind == pb.KIND_INDICES
    weight = optional_float_operand(fields, "weight")
    row_weight = optional_float_operand(fields, "row_weight")
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, target, weight, row_weight, grad_output)
    none = NO_GRADIENT[target_kind]
    gradients = options.gradients(fields, none | counts.NO_INPUT_GRADIENT if sent.dtype in INTEGERS else none)
    if by_index:
        target = class_targets.indices(target, sent.shape, loss_shape, ONE_HOT)
    elif target.shape != sent.shape:
        raise mismatch(target.shape, sent.shape, "target", _why_distribution(target, sent.shape, loss_shape))
    class_weight = class_targets.weights(weight, layout)
    by_row = rowwise.row_weight(row_weight, loss_shape)
    wanted = auxiliary_outputs.read_outputs(fields, kind, by_index, compute)
    reducing = options.reducing(RPC, fields, options.log_base(fields), grad_output, loss_shape)
    ignore_index = _ignore_index(fields, by_index)
    job = Job(
        rpc=RPC,
        formula=_formula(kind, by_index),
        layout=layout,
        compute=compute,
        input=sent,
        target=target,
        **rowwise.weight_fields(compute, class_weight, by_row, rowwise.row_upstream(grad_output, reducing)),
        ignore_index=ignore_index,
        label_smoothing=options.label_smoothing(fields, layout.classes, compute),
        input_kind=kind,
        target_kind=Kind.COUNTS if target_kind == pb.KIND_COUNTS else Kind.PROBABILITIES,
        z_loss=wanted.z_loss,
        softcap=wanted.softcap,
        outputs=wanted.outputs,
        reducing=reducing,
        loss_shape=loss_shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
        target_gradient=pb.GRADIENT_TARGET in gradients,
        weight_gradient=pb.GRADIENT_WEIGHT in gradients,
        weight_dtype=DATA_TYPE[compute] if weight is None else gradient_dtype(weight.dtype),
    )
    return ready(job)


def _formula(kind: Kind, by_index: bool) -> Formula:
    if kind is Kind.LOGITS:
        return Formula.CROSS_ENTROPY_INDEX if by_index else Formula.CROSS_ENTROPY_DISTRIBUTION
    return Formula.CROSS_ENTROPY_KINDS_INDEX if by_index else Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION


def _target_kind(fields: Fields, target: Array) -> int:
    """KIND_INDICES, KIND_PROBABILITIES or KIND_COUNTS: as stated, else as the target's dtype says."""
    stated = options.choice(RPC, fields, "target_kind", pb.Kind, TARGET_KINDS)
    if stated == pb.KIND_UNSPECIFIED:
        if target.dtype in INTEGERS:
            return pb.KIND_INDICES
        if target.dtype in FLOATS:
            return pb.KIND_PROBABILITIES
        raise dtype_not_taken(target, "target", "an integer dtype for class indices or a float dtype for distributions")
    dtypes, taken = TARGET_DTYPES[stated]
    if target.dtype not in dtypes:
        name = value_names(pb.Kind.DESCRIPTOR)[stated]
        raise dtype_not_taken(target, "target", f"{taken} with target_kind {name}")
    return stated


def _why_distribution(target: Array, input_shape: tuple[int, ...], rows: tuple[int, ...]) -> str:
    """Why a target must have the input's shape: it may be class indices in a dtype that says otherwise."""
    because = "that of the input, a distribution for each row"
    if target.dtype not in FLOATS or target.shape not in (rows, input_shape[:-1]):
        return because
    name = dtype_name(target.dtype)
    return f"a {name} target is taken for a distribution; class indices must have an integer dtype, such as int64"


def _ignore_index(fields: Fields, by_index: bool) -> int:
    """PyTorch refuses it with distributions from 0 on only, so that its default can be passed on."""
    ignored: int = fields.get("ignore_index", IGNORE_INDEX)
    if not by_index and ignored >= 0:
        raise InvalidRequest(
            f"ignore_index = {ignored} is not taken with a distribution target: only class indices have one",
            reason="OPTION_NOT_TAKEN",
            field="ignore_index",
            metadata={"value": ignored},
        )
    return ignored

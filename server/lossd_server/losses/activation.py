"""Activation: softmax and log-softmax of every row, sigmoid and log-sigmoid of every element."""

from __future__ import annotations

from lossd.v1 import loss_pb2 as pb
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Formula, Job, Layout, Reduction
from lossd_server.losses import elementwise, options
from lossd_server.losses.conversion import ready
from lossd_server.losses.operands import float_operand, optional_float_operand
from lossd_server.losses.shapes import elements, rows
from lossd_server.tensors.dtypes import compute_dtype
from lossd_server.tensors.request_fields import Fields

RPC = "Activation"
FUNCTIONS: dict[int, Formula] = {
    pb.ACTIVATION_FUNCTION_UNSPECIFIED: Formula.SOFTMAX,
    pb.ACTIVATION_FUNCTION_SOFTMAX: Formula.SOFTMAX,
    pb.ACTIVATION_FUNCTION_LOG_SOFTMAX: Formula.LOG_SOFTMAX,
    pb.ACTIVATION_FUNCTION_SIGMOID: Formula.SIGMOID,
    pb.ACTIVATION_FUNCTION_LOG_SIGMOID: Formula.LOG_SIGMOID,
}
# There is nothing to reduce.
REDUCTIONS: dict[int, Reduction] = {pb.REDUCTION_UNSPECIFIED: Reduction.NONE, pb.REDUCTION_NONE: Reduction.NONE}
NO_GRADIENT: dict[int, str] = {
    pb.GRADIENT_TARGET: "Activation has no target",
    pb.GRADIENT_WEIGHT: "Activation has no weight",
}


def check(fields: Fields) -> Job:
    """input float of any shape. Raises InvalidRequest and NotServed."""
    formula = options.choice(RPC, fields, "function", pb.ActivationFunction, FUNCTIONS)
    sent = float_operand(fields, "input")
    layout = _layout(fields, formula, sent.shape)
    grad_output = optional_float_operand(fields, "grad_output")
    compute = compute_dtype(sent, grad_output)
    gradients = options.gradients(fields, NO_GRADIENT)
    reducing = options.reducing(RPC, fields, 1.0, grad_output, sent.shape, REDUCTIONS)
    job = Job(
        rpc=RPC,
        formula=formula,
        layout=layout,
        compute=compute,
        input=sent,
        upstream=elementwise.element_upstream(grad_output, reducing, sent.shape),
        reducing=reducing,
        loss_shape=sent.shape,
        input_gradient=pb.GRADIENT_INPUT in gradients,
    )
    return ready(job)


def _layout(fields: Fields, formula: Formula, shape: tuple[int, ...]) -> Layout:
    dim = fields.get("dim")
    if formula.elementwise:
        if dim is not None:
            name = formula.name.lower()
            raise InvalidRequest(
                f"dim = {dim} is not taken by {name}, which has no class dimension",
                reason="OPTION_NOT_TAKEN",
                field="dim",
                metadata={"value": dim, "function": name},
            )
        return elements(shape)
    layout, _ = rows(shape or (1,), dim)  # PyTorch takes a scalar for a row of one class
    return layout

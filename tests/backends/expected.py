"""What a Job must give: the same call of PyTorch in float64, gradients by autograd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Formula, Job
from lossd_server.tensors.array import Array, View
from tests.conformance import pytorch
from tests.conformance.cases import Asked

Float64 = npt.NDArray[np.float64]
DTYPES: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT64: np.float64,
    pb.DATA_TYPE_FLOAT32: np.float32,
    pb.DATA_TYPE_FLOAT16: np.float16,
    pb.DATA_TYPE_BFLOAT16: ml_dtypes.bfloat16,
    pb.DATA_TYPE_FLOAT8_E5M2: ml_dtypes.float8_e5m2,
}
# The client's method. NLL of a Job has row weights, which `nll_loss` lacks: it is a cross-entropy of log-probabilities.
METHODS = {
    Formula.CROSS_ENTROPY_INDEX: "cross_entropy",
    Formula.CROSS_ENTROPY_DISTRIBUTION: "cross_entropy",
    Formula.CROSS_ENTROPY_KINDS_INDEX: "cross_entropy",
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION: "cross_entropy",
    Formula.NLL: "cross_entropy",
    Formula.ENTROPY_LOGITS: "entropy",
    Formula.ENTROPY_PROBABILITIES: "entropy",
    Formula.ENTROPY_COUNTS: "entropy",
    Formula.KL_ROWS: "kl_divergence",
    Formula.KL: "kl_divergence",
    Formula.BCE: "bce",
    Formula.BCE_WITH_LOGITS: "bce_with_logits",
    Formula.SELF_INFORMATION: "self_information",
    Formula.SOFTMAX: "softmax",
    Formula.LOG_SOFTMAX: "log_softmax",
    Formula.SIGMOID: "sigmoid",
    Formula.LOG_SIGMOID: "log_sigmoid",
}


@dataclass
class Expected:
    """As Computed, in float64: in the input's shape (outer, C, inner) or one entry a row (outer, inner)."""

    losses: Float64 | None = None
    values: Float64 | None = None
    input_gradient: Float64 | None = None
    target_gradient: Float64 | None = None
    weight_gradient: Float64 | None = None
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def exact(operand: Array | View) -> Float64:
    """What the operand really holds, in its shape; a View broadcast."""
    values: Float64 = operand.values.view(DTYPES[operand.dtype]).astype(np.float64)
    if isinstance(operand, View):
        return np.lib.stride_tricks.as_strided(values, operand.shape, [8 * step for step in operand.strides]).copy()
    return values.reshape(operand.shape)


def expected(job: Job, scale: float) -> Expected:
    """The answers of a job of finite, ordinary numbers."""
    asked = _asked(job)
    found = pytorch.results(asked)
    assert found is not None
    # Scaled here: autograd's sums of equal upstream gradients would round each time unless they are ones.
    gradients = {f"{name}_gradient": scale * found[name] for name in ("input", "target", "weight") if name in found}
    result = Expected(**gradients, outputs=_outputs(job, asked) if job.outputs else {})
    if job.formula.activation or job.formula is Formula.KL_ROWS:
        result.values = found["loss"]
    if not job.formula.activation:
        result.losses = found["loss"].sum(1) if job.formula is Formula.KL_ROWS else found["loss"]
    return result


def _asked(job: Job) -> Asked:
    """The client's call, without a reduction."""
    layout = job.layout
    shape = job.input.shape if job.formula.elementwise else (layout.outer, layout.classes, layout.inner)
    rows = (layout.outer, layout.inner)
    options: dict[str, Any] = {}
    tensors = [exact(job.input).reshape(shape)]
    if job.target is not None:
        index = job.target.dtype == pb.DATA_TYPE_INT64
        tensors.append(job.target.values.reshape(rows) if index else exact(job.target).reshape(shape))
        if index:
            options["ignore_index"] = job.ignore_index
    by_row = not (job.formula.elementwise or job.formula.activation or job.formula is Formula.KL_ROWS)
    upstream = np.ones(rows if by_row else shape)
    if job.row_upstream is not None:
        upstream *= job.row_upstream.reshape(rows)
    if job.upstream is not None:
        upstream *= exact(job.upstream).reshape(shape)
    gradients = {"input": job.input_gradient, "target": job.target_gradient, "weight": job.weight_gradient}
    options |= {"grad": tuple(name for name, wanted in gradients.items() if wanted), "grad_output": upstream}
    if not job.formula.activation:
        options |= {"reduction": "none"} | _options(job)
    return Asked(METHODS[job.formula], tuple(tensors), options)


def _options(job: Job) -> dict[str, Any]:
    """Those that the job has of its loss, as the client names them."""
    method, rows = METHODS[job.formula], (job.layout.outer, job.layout.inner)
    found: dict[str, Any] = {}
    if "KINDS" in job.formula.name or job.formula in (Formula.NLL, Formula.KL, Formula.KL_ROWS):
        found["kind"] = job.input_kind.name.lower()
    if method == "kl_divergence":
        found["target_kind"] = job.target_kind.name.lower()
    if method == "entropy":
        found["kind"] = job.formula.name.removeprefix("ENTROPY_").lower()
    elif job.class_weight is not None:
        found["weight"] = job.class_weight.astype(np.float64)
    if job.row_weight is not None:
        found["row_weight"] = job.row_weight.reshape(rows)
    views = {"weight": job.weight, "pos_weight": job.pos_weight}
    found |= {name: exact(view) for name, view in views.items() if view is not None}
    numbers = {"label_smoothing": job.label_smoothing, "z_loss": job.z_loss, "softcap": job.softcap}
    return found | {name: number for name, number in numbers.items() if number}


def _outputs(job: Job, asked: Asked) -> dict[str, npt.NDArray[Any]]:
    """Every output of a softmax cross-entropy."""
    logits = torch.from_numpy(asked.tensors[0])
    if job.softcap:
        logits = job.softcap * torch.tanh(logits / job.softcap)
    top, labels = logits.argmax(1).numpy(), asked.tensors[1]
    return {
        "lse": logits.logsumexp(1).numpy(),
        "entropy": pytorch.entropy(logits, kind="logits", reduction="none").numpy(),
        "argmax": top,
        "correct": (top == labels) & (labels != job.ignore_index) if labels.shape == top.shape else np.zeros(0),
    }

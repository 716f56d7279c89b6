"""A backend in a screen of torch: plain formulas in float64, gradients by autograd, so that the host's part is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossd_server.jobs.job import Computed, Fault, Formula, Job, Kind, Launch
from lossd_server.tensors.array import Array, View
from lossd_server.tensors.dtypes import FLOAT64, narrowed, widen


class Reference:
    """Every formula as written in the contract, with no care for extremes; `launched` is what it was given."""

    name = "reference"
    device = "torch"
    inline_bytes = 0

    def __init__(self) -> None:
        self.launched: list[Launch] = []

    def warm_up(self, report: Callable[[str], None]) -> None: ...

    def close(self) -> None: ...

    def prepare(self, job: Job, computed: Computed) -> None: ...

    def run(self, launches: Sequence[Launch]) -> list[Computed]:
        self.launched += launches
        return [_computed(launch.job, launch.scale) for launch in launches]


class Operands:
    """A job's numbers as leaves of float64, flat as they lie; `x` and `t` see them by (rows, classes)."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.input = _leaf(job.input)
        floats = job.target is not None and job.target.values.dtype != np.int64
        self.target = _leaf(job.target) if floats and job.target is not None else None
        weight = np.ones(job.layout.classes) if job.class_weight is None else job.class_weight.astype(np.float64)
        self.weight = torch.tensor(weight, requires_grad=True)
        self.x = self.rows(self.input)
        self.t = self.x if self.target is None else self.rows(self.target)

    def rows(self, flat: Tensor) -> Tensor:
        layout = self.job.layout
        split = flat.reshape(layout.outer, layout.classes, layout.inner)
        return split.permute(0, 2, 1).reshape(layout.rows, layout.classes)

    def flat(self, rows: Tensor) -> Tensor:
        layout = self.job.layout
        return rows.reshape(layout.outer, layout.inner, layout.classes).permute(0, 2, 1).reshape(-1)

    @property
    def labels(self) -> Tensor:
        assert self.job.target is not None
        return torch.tensor(self.job.target.values)

    @property
    def kept(self) -> Tensor:
        return self.labels != self.job.ignore_index


def _computed(job: Job, scale: float) -> Computed:
    fault = _fault(job)
    if fault is not None:
        return Computed(fault=fault)
    of = Operands(job)
    losses = FORMULAS[job.formula](of)
    result = Computed()
    if job.formula.activation:
        result.values = narrowed(losses.detach().numpy(), job.input.dtype)
    elif job.formula is Formula.KL_ROWS:
        result.values = losses.detach().numpy()
        result.losses = of.rows(losses).sum(1).detach().numpy()
    elif job.formula.elementwise:
        step = job.layout.chunk_items * job.layout.classes
        result.chunk_sums = np.add.reduceat(losses.detach().numpy(), np.arange(0, job.layout.elements, step))
        result.losses = losses.detach().numpy().astype(job.compute) if job.keep_losses else None
    else:
        result.losses = losses.detach().numpy()
    factor = torch.tensor(scale, dtype=torch.float64)
    if job.row_upstream is not None:
        factor = factor * torch.tensor(job.row_upstream)
    if job.upstream is not None:
        factor = factor * _broadcast(job.upstream)
    if losses.requires_grad:
        (factor * losses).sum().backward()  # type: ignore[no-untyped-call]
    if job.input_gradient:
        result.input_gradient = _gradient(of.input, job.input)
    if job.target_gradient and of.target is not None and job.target is not None:
        result.target_gradient = _gradient(of.target, job.target)
    if job.weight_gradient and of.weight.grad is not None:
        result.weight_gradient = of.weight.grad.numpy()
    if job.outputs:
        result.outputs = _outputs(of)
    return result


def _leaf(operand: Array) -> Tensor:
    return torch.tensor(widen(operand.values, operand.dtype, FLOAT64), requires_grad=True)


def _broadcast(view: View) -> Tensor:
    values = widen(view.values, view.dtype, FLOAT64).copy()
    return torch.as_strided(torch.from_numpy(values), view.shape, view.strides).reshape(-1)


def _gradient(leaf: Tensor, operand: Array) -> npt.NDArray[Any]:
    gradient = np.zeros(operand.size) if leaf.grad is None else leaf.grad.numpy()
    return narrowed(gradient, operand.dtype)


def _fault(job: Job) -> tuple[Fault, int] | None:
    values = widen(job.input.values, job.input.dtype, FLOAT64)
    if job.formula is Formula.BCE:
        assert job.target is not None
        target = widen(job.target.values, job.target.dtype, FLOAT64)
        for numbers, fault in ((values, Fault.INPUT_NOT_PROBABILITY), (target, Fault.TARGET_NOT_PROBABILITY)):
            wrong = ~((numbers >= 0) & (numbers <= 1))
            if np.any(wrong):
                return fault, int(np.argmax(wrong))
    if job.formula is Formula.ENTROPY_COUNTS or job.input_kind is Kind.COUNTS:
        if np.any(~(values >= 0)):
            return Fault.NEGATIVE_COUNT, int(np.argmax(~(values >= 0)))
        empty = Operands(job).rows(torch.tensor(values)).sum(1) == 0
        if empty.any():
            return Fault.EMPTY_COUNTS, int(empty.int().argmax())
    return None


def _log(rows: Tensor, kind: Kind) -> Tensor:
    """ln p of operands of a kind, over the last dimension."""
    if kind is Kind.LOGITS:
        return rows.log_softmax(-1)
    if kind is Kind.COUNTS:
        rows = rows / rows.sum(-1, keepdim=True)
    return rows if kind is Kind.LOG_PROBABILITIES else rows.log()


def _capped(of: Operands) -> Tensor:
    cap = of.job.softcap
    return cap * torch.tanh(of.x / cap) if cap else of.x


def _by_rows(of: Operands, per_row: Tensor) -> Tensor:
    """Row weights and the penalty on log-sum-exp."""
    job = of.job
    if job.z_loss:
        per_row = per_row + job.z_loss * _capped(of).logsumexp(-1) ** 2
    return per_row if job.row_weight is None else per_row * torch.tensor(job.row_weight)


def _index(of: Operands) -> Tensor:
    job = of.job
    surprise = -of.weight * _log(_capped(of), job.input_kind)
    label = torch.where(of.kept, of.labels, 0)
    own = surprise.gather(1, label[:, None])[:, 0]
    smooth = job.label_smoothing / job.layout.classes
    return torch.where(of.kept, _by_rows(of, (1 - job.label_smoothing) * own + smooth * surprise.sum(1)), 0.0)


def _distribution(of: Operands) -> Tensor:
    job = of.job
    target = (1 - job.label_smoothing) * of.t + job.label_smoothing / job.layout.classes
    return _by_rows(of, -(of.weight * target * _log(_capped(of), job.input_kind)).sum(1))


def _entropy(kind: Kind) -> Callable[[Operands], Tensor]:
    def losses(of: Operands) -> Tensor:
        log_p = _log(of.x, kind)
        return _by_rows(of, -torch.special.xlogy(log_p.exp(), log_p.exp()).sum(1))

    return losses


def _divergence(of: Operands) -> Tensor:
    log_q, log_p = _log(of.x, of.job.input_kind), _log(of.t, of.job.target_kind)
    return of.flat(log_p.exp() * (log_p - log_q))


def _weighted(of: Operands, losses: Tensor) -> Tensor:
    return losses if of.job.weight is None else losses * _broadcast(of.job.weight)


def _bce(of: Operands) -> Tensor:
    assert of.target is not None
    p, t = of.input, of.target
    return _weighted(of, -(t * p.log().clamp(min=-100) + (1 - t) * torch.log1p(-p).clamp(min=-100)))


def _bce_with_logits(of: Operands) -> Tensor:
    assert of.target is not None
    x, t, softplus = of.input, of.target, torch.nn.functional.softplus
    positive = 1.0 if of.job.pos_weight is None else _broadcast(of.job.pos_weight)
    return _weighted(of, positive * t * softplus(-x) + (1 - t) * softplus(x))


def _outputs(of: Operands) -> dict[str, npt.NDArray[Any]]:
    rows = _capped(of).detach()
    argmax = rows.argmax(1)
    p = rows.softmax(1)
    outputs = {"lse": rows.logsumexp(1), "entropy": -torch.special.xlogy(p, p).sum(1), "argmax": argmax}
    if "correct" in of.job.outputs:
        outputs["correct"] = ((argmax == of.labels) & of.kept).to(torch.uint8)
    return {name: values.numpy() for name, values in outputs.items()}


FORMULAS: dict[Formula, Callable[[Operands], Tensor]] = {
    Formula.CROSS_ENTROPY_INDEX: _index,
    Formula.CROSS_ENTROPY_KINDS_INDEX: _index,
    Formula.NLL: _index,
    Formula.CROSS_ENTROPY_DISTRIBUTION: _distribution,
    Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION: _distribution,
    Formula.ENTROPY_LOGITS: _entropy(Kind.LOGITS),
    Formula.ENTROPY_PROBABILITIES: _entropy(Kind.PROBABILITIES),
    Formula.ENTROPY_COUNTS: _entropy(Kind.COUNTS),
    Formula.KL: _divergence,
    Formula.KL_ROWS: _divergence,
    Formula.BCE: _bce,
    Formula.BCE_WITH_LOGITS: _bce_with_logits,
    Formula.SELF_INFORMATION: lambda of: -of.input.log(),
    Formula.SOFTMAX: lambda of: of.flat(of.x.softmax(-1)),
    Formula.LOG_SOFTMAX: lambda of: of.flat(of.x.log_softmax(-1)),
    Formula.SIGMOID: lambda of: of.input.sigmoid(),
    Formula.LOG_SIGMOID: lambda of: torch.nn.functional.logsigmoid(of.input),
}

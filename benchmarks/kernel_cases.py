"""What kernels.py times: the same tensors as Jobs for a backend and as a torch program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Answer, Formula, Job, Kind, Layout
from lossd_server.tensors.array import Array

DTYPES = {
    torch.float32: pb.DATA_TYPE_FLOAT32,
    torch.float16: pb.DATA_TYPE_FLOAT16,
    torch.bfloat16: pb.DATA_TYPE_BFLOAT16,
    torch.float8_e4m3fn: pb.DATA_TYPE_FLOAT8_E4M3FN,
    torch.float8_e5m2: pb.DATA_TYPE_FLOAT8_E5M2,
    torch.int64: pb.DATA_TYPE_INT64,
}
# Relative error of the loss; error of a gradient over its greatest entry (16-bit gradients: half an ulp, and rounding).
LOSS_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = {torch.float16: 2**-10, torch.bfloat16: 2**-7}  # others are float32
FLOAT32_TOLERANCE = 1e-6
# How a dtype that numpy has not lies in memory.
STORED = {
    torch.float16: torch.uint16,
    torch.bfloat16: torch.uint16,
    torch.float8_e4m3fn: torch.uint8,
    torch.float8_e5m2: torch.uint8,
}
CHECKED_ROWS = 256

Loss = Callable[..., torch.Tensor]  # of input, target and reduction
Goals = tuple[float | None, float | None]
NONE = torch.empty(0)  # no target


def entropy(logits: torch.Tensor, _: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Of the distributions that the rows' logits stand for, as PyTorch has it."""
    logs = F.log_softmax(logits, dim=-1)
    rows = -(logs.exp() * logs).sum(-1)
    return rows.mean() if reduction == "mean" else rows.sum()


@dataclass(frozen=True)
class Program:
    """A loss as lossd names it, and PyTorch's function."""

    rpc: str
    torch: Loss
    input_kind: Kind = Kind.LOGITS


LOSSES = {
    Formula.CROSS_ENTROPY_INDEX: Program("CrossEntropy", F.cross_entropy),
    Formula.BCE_WITH_LOGITS: Program("BCEWithLogits", F.binary_cross_entropy_with_logits),
    Formula.KL: Program("KL", F.kl_div, Kind.LOG_PROBABILITIES),
    Formula.ENTROPY_LOGITS: Program("Entropy", entropy),
}


def array(tensor: torch.Tensor) -> Array:
    """The tensor's own memory as an operand."""
    flat = tensor.reshape(-1)
    values = flat.view(STORED.get(flat.dtype, flat.dtype))
    return Array(values.numpy(), DTYPES[tensor.dtype], tuple(tensor.shape))


@dataclass(frozen=True)
class Case:
    """One or more evaluations of mean losses that one batch holds.

    goals: how many times as fast as torch eager: loss; loss and gradient. compiled_goals: as torch.compile.
    """

    name: str
    formula: Formula
    tensors: Sequence[tuple[torch.Tensor, torch.Tensor]]
    goals: Goals
    compiled_goals: Goals = (None, None)

    @property
    def loss(self) -> Loss:
        return LOSSES[self.formula].torch

    @property
    def items(self) -> int:
        """What the mean is over: elements or rows."""
        return sum(x.numel() if self.formula.elementwise else x.shape[0] for x, _ in self.tensors)

    @property
    def moved_bytes(self) -> tuple[int, int]:
        """Bytes that cannot be avoided: inputs and targets read once; with gradients, those written once."""
        inputs = sum(x.numel() * x.element_size() for x, _ in self.tensors)
        targets = sum(t.numel() * t.element_size() for _, t in self.tensors)
        gradients = sum(x.numel() * (4 if x.element_size() == 1 else x.element_size()) for x, _ in self.tensors)
        return inputs + targets, inputs + gradients + targets

    def jobs(self, gradient: bool) -> list[Job]:
        loss = LOSSES[self.formula]
        return [
            Job(
                rpc=loss.rpc,
                formula=self.formula,
                layout=Layout(outer=x.shape[0], classes=x.shape[1] if x.ndim > 1 else 1, inner=1),
                compute=np.dtype(np.float32),
                input=array(x),
                target=array(t) if t.numel() else None,
                input_kind=loss.input_kind,
                input_gradient=gradient,
            )
            for x, t in self.tensors
        ]

    def torch_loss(self, loss: Loss) -> Callable[[], object]:
        def forward() -> None:
            with torch.no_grad():
                for x, t in self.tensors:
                    loss(x, t)

        return forward

    def torch_gradient(self, loss: Loss) -> Callable[[], object]:
        leaves = [(x.detach().requires_grad_(), t) for x, t in self.tensors]

        def forward_and_backward() -> None:
            for x, t in leaves:
                x.grad = None
                loss(x, t).backward()  # type: ignore[no-untyped-call]

        return forward_and_backward

    def check(self, answers: Sequence[object]) -> None:
        """AssertionError where an answer (with gradient) is off what torch says of the same tensors in float64."""
        for (x, t), answer in zip(self.tensors, answers, strict=True):
            assert isinstance(answer, Answer), f"{self.name}: {answer}"
            assert answer.input_gradient is not None
            gradient = torch.from_numpy(answer.input_gradient)
            gradient = (gradient.view(x.dtype) if gradient.dtype == torch.uint16 else gradient).reshape(x.shape)
            total, share = 0.0, 1 / (x.numel() if self.formula.elementwise else x.shape[0])
            error = largest = 0.0
            rows = CHECKED_ROWS if x.ndim > 1 else x.numel()
            for start in range(0, x.shape[0], rows):
                part = x[start : start + rows].double().requires_grad_()
                wanted = t[start : start + rows]
                wanted = wanted if wanted.dtype == torch.int64 else wanted.double()
                loss = self.loss(part, wanted, reduction="sum") * share
                loss.backward()  # type: ignore[no-untyped-call]
                assert part.grad is not None
                total += float(loss.detach())
                error = max(error, float((gradient[start : start + rows].double() - part.grad).abs().max()))
                largest = max(largest, float(part.grad.abs().max()))
            off = abs(float(answer.loss) - total) / abs(total)
            assert off <= LOSS_TOLERANCE, f"{self.name}: the loss is off by {off:.1e}"
            off = error / largest
            tolerance = GRADIENT_TOLERANCE.get(x.dtype, FLOAT32_TOLERANCE)
            assert off <= tolerance, f"{self.name}: the gradient is off by {off:.1e}"


def rows_of(random: torch.Generator, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, C) and class indices (N,)."""
    logits = torch.randn(shape, generator=random) * 3
    return logits, torch.randint(0, shape[1], shape[:1], generator=random)


def cases(scale: float = 1.0) -> list[Case]:
    """Every case; `scale` < 1 shortens the large ones, for a quick look."""
    random = torch.Generator().manual_seed(0)

    def scaled(n: int) -> int:
        return max(8, int(n * scale))

    def cross_entropy(n: int, c: int, goals: Goals, compiled: Goals = (None, None)) -> Case:
        return Case(f"cross-entropy ({n}, {c})", Formula.CROSS_ENTROPY_INDEX, [rows_of(random, n, c)], goals, compiled)

    found = [
        cross_entropy(8, 16, (None, None)),
        cross_entropy(scaled(100_000), 10, (8, 9.8)),
        *(cross_entropy(scaled(n), c, (2, 5), (1.5, 2.5)) for n, c in ((20_000, 100), (4096, 1000), (8192, 4096))),
    ]
    count = scaled(10_000_000)
    logits = torch.randn(count, generator=random) * 3
    probabilities = torch.rand(count, generator=random)
    found.append(Case(f"BCE with logits ({count:.0e})", Formula.BCE_WITH_LOGITS, [(logits, probabilities)], (7, 7)))
    rows = logits[: count // 1000 * 1000].reshape(-1, 1000)
    target = probabilities[: rows.numel()].reshape(-1, 1000)
    target = target / target.sum(-1, keepdim=True)
    logs = F.log_softmax(rows, dim=-1)
    shape = f"({len(rows)}, 1000)"
    found.append(Case(f"KL of log probabilities {shape}", Formula.KL, [(logs, target)], (7, 7)))
    found.append(Case(f"entropy of logits {shape}", Formula.ENTROPY_LOGITS, [(rows, NONE)], (7, 7)))
    sizes: list[tuple[int, int]] = []
    for _ in range(64):
        n, c = torch.rand(2, generator=random).tolist()
        sizes.append((round(8 * 32**n), round(10 * 100**c)))  # 8 to 256 rows, 10 to 1,000 classes, log-uniform
    ragged = [rows_of(random, *size) for size in sizes]
    found.append(Case("64 ragged, one batch", Formula.CROSS_ENTROPY_INDEX, ragged, (None, 8)))
    return [*found, cross_entropy(scaled(4096), 32000, (3.5, 5))]


def narrowed(case: Case, dtype: torch.dtype) -> Case:
    """The case with its inputs rounded to a dtype of 16 or 8 bits."""
    name = str(dtype).removeprefix("torch.")
    return replace(case, name=f"{case.name} {name}", tensors=[(x.to(dtype), t) for x, t in case.tensors])

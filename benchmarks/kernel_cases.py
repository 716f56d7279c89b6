"""What kernels.py times: the same tensors as Jobs for a backend and as a torch program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Answer, Formula, Job, Layout
from lossd_server.tensors.array import Array

DTYPES = {
    torch.float32: pb.DATA_TYPE_FLOAT32,
    torch.float16: pb.DATA_TYPE_FLOAT16,
    torch.bfloat16: pb.DATA_TYPE_BFLOAT16,
    torch.int64: pb.DATA_TYPE_INT64,
}
# Relative error of the loss; error of a gradient over its greatest entry (16-bit gradients: half an ulp, and rounding).
LOSS_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = {torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}
CHECKED_ROWS = 256

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def array(tensor: torch.Tensor) -> Array:
    """The tensor's own memory as an operand."""
    flat = tensor.reshape(-1)
    values = flat.view(torch.uint16) if flat.dtype in (torch.float16, torch.bfloat16) else flat
    return Array(values.numpy(), DTYPES[tensor.dtype], tuple(tensor.shape))


@dataclass(frozen=True)
class Case:
    """One or more evaluations of mean losses that one batch holds.

    goals: how many times as fast as torch eager: loss; loss and gradient.
    """

    name: str
    formula: Formula
    tensors: Sequence[tuple[torch.Tensor, torch.Tensor]]
    goals: tuple[float | None, float | None]

    @property
    def loss(self) -> Loss:
        elementwise = self.formula is Formula.BCE_WITH_LOGITS
        return F.binary_cross_entropy_with_logits if elementwise else F.cross_entropy

    @property
    def moved_bytes(self) -> tuple[int, int]:
        """Bytes that cannot be avoided: inputs and targets read once; with gradients, those written once."""
        inputs = sum(x.numel() * x.element_size() for x, _ in self.tensors)
        targets = sum(t.numel() * t.element_size() for _, t in self.tensors)
        return inputs + targets, 2 * inputs + targets

    def jobs(self, gradient: bool) -> list[Job]:
        rpc = "BCEWithLogits" if self.formula is Formula.BCE_WITH_LOGITS else "CrossEntropy"
        return [
            Job(
                rpc=rpc,
                formula=self.formula,
                layout=Layout(outer=x.shape[0], classes=x.shape[1] if x.ndim > 1 else 1, inner=1),
                compute=np.dtype(np.float32),
                input=array(x),
                target=array(t),
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
            total, share = 0.0, 1 / (x.numel() if self.formula is Formula.BCE_WITH_LOGITS else x.shape[0])
            error = largest = 0.0
            rows = CHECKED_ROWS if x.ndim > 1 else x.numel()
            for start in range(0, x.shape[0], rows):
                part = x[start : start + rows].double().requires_grad_()
                wanted = t[start : start + rows]
                wanted = wanted if wanted.dtype == torch.int64 else wanted.double()
                loss = self.loss(part, wanted, reduction="sum") * share  # type: ignore[call-arg]
                loss.backward()  # type: ignore[no-untyped-call]
                assert part.grad is not None
                total += float(loss.detach())
                error = max(error, float((gradient[start : start + rows].double() - part.grad).abs().max()))
                largest = max(largest, float(part.grad.abs().max()))
            off = abs(float(answer.loss) - total) / abs(total)
            assert off <= LOSS_TOLERANCE, f"{self.name}: the loss is off by {off:.1e}"
            off = error / largest
            assert off <= GRADIENT_TOLERANCE[x.dtype], f"{self.name}: the gradient is off by {off:.1e}"


def rows_of(random: torch.Generator, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, C) and class indices (N,)."""
    logits = torch.randn(shape, generator=random) * 3
    return logits, torch.randint(0, shape[1], shape[:1], generator=random)


def cases(scale: float = 1.0) -> list[Case]:
    """Every case; `scale` < 1 shortens the large ones, for a quick look."""
    random = torch.Generator().manual_seed(0)
    index = Formula.CROSS_ENTROPY_INDEX
    found = [Case("cross-entropy (8, 16)", index, [rows_of(random, 8, 16)], (None, None))]
    for n, c in ((100_000, 10), (20_000, 100), (4096, 1000)):
        n = max(8, int(n * scale))
        found.append(Case(f"cross-entropy ({n}, {c})", index, [rows_of(random, n, c)], (3, 5)))
    count = int(1e7 * scale)
    logits = torch.randn(count, generator=random) * 3
    targets = torch.rand(count, generator=random)
    found.append(Case(f"BCE with logits ({count:.0e})", Formula.BCE_WITH_LOGITS, [(logits, targets)], (4, 5)))
    sizes: list[tuple[int, int]] = []
    for _ in range(64):
        n, c = torch.rand(2, generator=random).tolist()
        sizes.append((round(8 * 32**n), round(10 * 100**c)))  # 8 to 256 rows, 10 to 1,000 classes, log-uniform
    ragged = [rows_of(random, *size) for size in sizes]
    found.append(Case("64 ragged, one batch", index, ragged, (None, 8)))
    n = max(8, int(4096 * scale))
    large = Case(f"cross-entropy ({n}, 32000)", index, [rows_of(random, n, 32000)], (3.5, 5))
    return [*found, large]


def narrowed(case: Case, dtype: torch.dtype) -> Case:
    """The case with its inputs rounded to a 16-bit dtype."""
    name = str(dtype).removeprefix("torch.")
    return replace(case, name=f"{case.name} {name}", tensors=[(x.to(dtype), t) for x, t in case.tensors])

"""lossd.torch.functional beside torch.nn.functional, on arguments made at random: results, dtypes and refusals."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import lossd
import lossd.torch.functional as L

SHAPES = [
    (),
    (1,),
    (3,),
    (4,),
    (0,),
    (3, 4),
    (4, 3),
    (3, 1),
    (1, 4),
    (0, 4),
    (3, 0),
    (3, 4, 2),
    (3, 4, 0),
    (2, 3, 4, 2),
]
DTYPES = [*[torch.float32] * 6, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
LOSSES = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")
# Of PyTorch's error and ours, in the lowest precision that takes part.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-5, torch.float16: 5e-3, torch.bfloat16: 5e-2}
# PyTorch refuses these where lossd computes, and lossd these where PyTorch has nothing to compute.
OTHERWISE = (
    "expected scalar type Long but found Byte",
    "size mismatch (got input",
    "has dtype bool",
    "has dtype int64",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


class Arguments:
    """Made at random: mostly what PyTorch takes, often nearly so."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loss = self.random.choice(LOSSES)
        reductions = ["mean", "sum", "none", "mean", "sum", "none", "batchmean", "men", "elementwise_mean"]
        self.options: dict[str, Any] = {"reduction": self.random.choice(reductions)}
        self.input = self.floats(self.random.choice(SHAPES), self.random.choice(DTYPES))
        self.target = self.floats_like(self.input)
        if self.loss in ("cross_entropy", "nll_loss"):
            self.of_classes()
        elif self.loss != "kl_div" and self.sometimes():
            self.options["weight"] = self.weight([self.input.shape, (4,), (3, 1), (1,), ()])
        if self.loss == "binary_cross_entropy_with_logits" and self.sometimes():
            self.options["pos_weight"] = self.weight([self.input.shape, (4,), (3, 1), (1,)])
        if self.loss == "kl_div" and self.sometimes():
            self.options["log_target"] = True

    def of_classes(self) -> None:
        shape = self.input.shape
        if self.loss == "nll_loss" or self.random.random() < 0.6:
            rows = shape[:1] + shape[2:] if self.input.ndim > 1 else torch.Size()
            rows = self.random.choice([rows] * 6 + [torch.Size(one) for one in SHAPES[:5]])
            dtype = self.random.choice([*[torch.int64] * 8, torch.uint8, torch.int32])
            self.target = torch.randint(0, 4, rows).to(dtype)
        if self.sometimes():
            classes = shape[1] if self.input.ndim > 1 else 4
            self.options["weight"] = self.weight([(classes,), (classes,), (3,)])
        if self.sometimes():
            self.options["ignore_index"] = self.random.choice([0, 1, -1, 2])
        if self.loss == "cross_entropy" and self.sometimes():
            self.options["label_smoothing"] = self.random.choice([0.1, 0.5, 1.0, 1.5])

    def sometimes(self) -> bool:
        return self.random.random() < 0.3

    def floats(self, shape: Any, dtype: torch.dtype) -> Tensor:
        probability = torch.rand(shape) * 0.9 + 0.05
        return (probability if self.loss == "binary_cross_entropy" else torch.logit(probability)).to(dtype)

    def floats_like(self, other: Tensor) -> Tensor:
        near = self.random.random() < 0.85
        shape = other.shape if near else self.random.choice(SHAPES)
        dtype = other.dtype if self.random.random() < 0.85 else self.random.choice(DTYPES)
        return (torch.rand(shape) * 0.9 + 0.05).to(dtype)

    def weight(self, shapes: list[Any]) -> Tensor:
        dtype = self.input.dtype if self.random.random() < 0.8 else torch.float32
        return torch.rand(self.random.choice(shapes)).to(dtype)

    @property
    def tolerance(self) -> float:
        tensors = [self.input, self.target, *self.options.values()]
        dtypes = [one.dtype for one in tensors if isinstance(one, Tensor)]
        return max(TOLERANCE.get(dtype, 0.0) for dtype in [torch.float64, *dtypes])

    def result(self, module: Any, **client: Any) -> list[Tensor] | Exception:
        """Loss and gradients, by an upstream gradient of both signs; or what is raised."""
        leaves = [one.clone().requires_grad_(one.is_floating_point()) for one in (self.input, self.target)]
        try:
            loss: Tensor = getattr(module, self.loss)(*leaves, **self.options, **client)
            wants = [leaf for leaf in leaves if leaf.requires_grad]
            if not wants:
                return [loss]
            upstream = torch.linspace(-1, 1, max(loss.numel(), 1))[: loss.numel()].reshape(loss.shape).to(loss.dtype)
            return [loss.detach(), *torch.autograd.grad(loss, wants, upstream)]
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            return error

    def __repr__(self) -> str:
        options = {name: getattr(value, "shape", value) for name, value in self.options.items()}
        tensors = [(tuple(one.shape), one.dtype) for one in (self.input, self.target)]
        return f"{self.loss}{tensors} {options}"


@pytest.mark.parametrize("chunk", range(4))
def test_any_arguments(client: lossd.Client, chunk: int) -> None:
    """PyTorch's number and gradients, in its dtypes and shapes; or an error of its class."""
    computed = refused = 0
    for seed in range(chunk * 300, chunk * 300 + 300):
        torch.manual_seed(seed)
        arguments = Arguments(seed)
        theirs, ours = arguments.result(F), arguments.result(L, client=client)
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            if any(sentence in str(error) for error in (theirs, ours) for sentence in OTHERWISE):
                continue
            kind = RuntimeError if isinstance(theirs, NotImplementedError) else type(theirs)
            assert isinstance(ours, kind), (seed, arguments, theirs, ours)
            refused += 1
            continue
        for a, b in zip(ours, theirs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), (seed, arguments)
            close = torch.allclose(
                a.double(), b.double(), rtol=arguments.tolerance, atol=arguments.tolerance, equal_nan=True
            )
            assert close, (seed, arguments, a, b)
        computed += 1

    assert computed > 50
    assert refused > 50


def test_a_refusal_says_both(client: lossd.Client) -> None:
    """PyTorch's sentence, then where: and it is lossd's InvalidArgument too, with field and reason."""
    with pytest.raises(
        IndexError, match=r"Target 9 is out of bounds\. \(target\[2\] = 9 is outside \[0, 4\)\)"
    ) as caught:
        L.cross_entropy(torch.randn(3, 4), torch.tensor([0, 1, 9]), client=client)
    assert isinstance(caught.value, lossd.InvalidArgument)
    assert caught.value.field == "target"

    sentence = r"all elements of input should be between 0 and 1 \(input\[1\] = 2"
    with pytest.raises(RuntimeError, match=sentence) as found:
        L.binary_cross_entropy(torch.tensor([0.5, 2.0]), torch.tensor([0.5, 1.0]), client=client)
    assert isinstance(found.value, ValueError)


def test_a_sentence_has_the_sizes_that_were_given(client: lossd.Client) -> None:
    """However often the same kind of call was made with others."""
    for rows in (5, 6, 7):
        with pytest.raises(ValueError, match=rf"input batch_size \({rows}\) to match target batch_size \(2\)"):
            L.cross_entropy(torch.randn(rows, 3), torch.tensor([0, 1]), client=client)


def test_scaled_float16_means_do_not_vanish(client: lossd.Client) -> None:
    """A gradient below 6e-8, float16's least, is there when the scale of a GradScaler comes."""
    x = (torch.randn(4096, 50) * 4).half().requires_grad_()
    y = torch.zeros(4096, dtype=torch.long)
    (ours,) = torch.autograd.grad(L.cross_entropy(x, y, client=client) * 1024, x)
    wide = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(F.cross_entropy(wide, y) * 1024, wide)

    assert ours.dtype == torch.float16
    torch.testing.assert_close(ours.double(), exact, rtol=2e-3, atol=1e-7)
